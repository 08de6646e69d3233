import * as pulumi from "@pulumi/pulumi";
import { beforeEach, expect, test } from "vitest";
import { hookName } from "../../components/internal/hookName";
import { record } from "../support/mocks";

class Component extends pulumi.ComponentResource {
    constructor(type: string, name: string, parent?: pulumi.Resource) {
        super(`test:index:${type}`, name, {}, { parent });
    }
}

beforeEach(() => record());

test("a hook's name is the component's path, which no other component has", () => {
    const [one, two] = [new Component("Platform", "one"), new Component("Platform", "two")];
    const names = [
        hookName(new Component("Image", "vllm"), "builder"),
        hookName(new Component("Release", "vllm"), "builder"),
        hookName(new Component("Image", "vllm", one), "builder"),
        hookName(new Component("Image", "vllm", two), "builder"),
    ];
    expect(names).toEqual(["Image vllm/builder", "Release vllm/builder", "Platform one/Image vllm/builder", "Platform two/Image vllm/builder"]);
});

test("in a plug-in it begins with the component: what the program put it below is an URN alone", () => {
    const parent = new pulumi.DependencyResource("urn:pulumi:dev::served::pulumi:pulumi:Stack::served-dev");
    expect(hookName(new Component("Image", "vllm", parent), "builder")).toBe("Image vllm/builder");
});
