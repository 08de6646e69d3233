import { AsyncLocalStorage } from "node:async_hooks";
import { expect, test } from "vitest";
import { inContext } from "../../components/internal/inContext";

test("a hook that is called from elsewhere runs where its component was made, with what it is given", async () => {
    const made = new AsyncLocalStorage<string>();
    const hook = async (name: string) => [await Promise.resolve(name), made.getStore()];
    const [bound, plain] = made.run("construct", () => [inContext(hook), hook]);
    expect(await bound("image")).toEqual(["image", "construct"]);
    expect(await plain("image")).toEqual(["image", undefined]);
});
