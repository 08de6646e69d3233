import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { messages } from "../support/messages";
import { repositoryRoot } from "../support/stackFile";

const page = fs.readFileSync(path.join(repositoryRoot, "docs/troubleshooting.md"), "utf8");

/** First cells of the tables whose head says `message`. */
const explained = page
    .split("\n\n")
    .filter((block) => block.startsWith("| message |"))
    .flatMap((table) => table.trimEnd().split("\n").slice(2))
    .flatMap((row) => (row.split(" | ")[0] ?? "").split("<br>").map((cell) => cell.replace(/^\| `|^`|`$/g, "")));

const found = messages();

describe("docs/troubleshooting.md", () => {
    test("explains every message that the source can print", () => {
        expect(found.size).toBeGreaterThan(200);
        const missing = [...found].filter(([text]) => !explained.includes(text)).map(([text, files]) => `${files.join(", ")}: ${text}`);
        expect(missing).toEqual([]);
    });

    test("explains none that the source no longer prints, and none twice", () => {
        expect(explained.filter((text) => !found.has(text))).toEqual([]);
        expect(explained.filter((text, index) => explained.indexOf(text) !== index)).toEqual([]);
    });

    test("gives each a cause and a way to mend it", () => {
        const rows = page.split("\n").filter((line) => line.startsWith("| `"));
        expect(rows.filter((row) => row.split(" | ").some((cell) => cell.replace(/[| ]/g, "") === ""))).toEqual([]);
    });
});

test.each([
    ["a property `wrong`", "components/node/planNode.ts", "leaves nothing of the HBM"],
    ["both branches of a condition", "components/rules/stages.ts", "cannot be left out"],
    ["a function's result", "approval/gate.ts", "the update approved at … did not end well and nothing is retried: a person decides"],
    ["a schema's own words", "components/builder/remoteBuilder.ts", "is no BuildKit address"],
    ["a command's refusal", "pins/main.ts", "--follow: …: is no source"],
    ["a bash script", "assets/vllm/build/common/apply-patches", "…: does not fit this source"],
    ["Python", "assets/vllm/managed_mem/settings.py", "…: …: no such setting"],
    ["the allocator", "assets/vllm/managed_alloc.cu", "managed_alloc: …, device …: refused … GiB (refusal …)"],
])("a message is found in %s", (_, file, text) => {
    expect(found.get(text)).toContain(file);
});
