import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/stackFile";

const rows = fs
    .readFileSync(path.join(repositoryRoot, "docs/attacks.md"), "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| ") && !/^\| (attack|---) /.test(line))
    .map((line) => line.slice(2, -2).split(" | "));

test("each attack of docs/attacks.md stands once, with a test of that name and what came of it", () => {
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.filter((cells) => cells.length !== 4 || cells.some((cell) => cell.trim() === ""))).toEqual([]);
    expect(new Set(rows.map(([attack]) => attack)).size).toBe(rows.length);
});

test.each(rows.map(([attack = "", triedBy = ""]) => [attack, triedBy]))("%s", (_, triedBy) => {
    const [, file = "", title = ""] = /^`([^`]+)`: (.+)$/.exec(triedBy) ?? [];
    expect(title, triedBy).not.toBe("");
    const text = fs.readFileSync(path.join(repositoryRoot, file), "utf8");
    // As a test's own title, or the name of a row of its table.
    expect(
        [`test("${title}"`, `"${title}",`, `("${title}")`].some((wanted) => text.includes(wanted)),
        triedBy,
    ).toBe(true);
});
