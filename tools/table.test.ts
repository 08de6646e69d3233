import { describe, expect, it } from "vitest";
import { renderPair, renderTable, type Row } from "./table";

const rows: Row[] = [
    { name: "pulumi", version: "3.274.1", origin: "built", where: "/cache/pulumi" },
    { name: "etcd", where: "wants 3.6.0 or newer; npx tsx tools/bootstrap.ts etcd" },
];

describe("renderTable", () => {
    it("aligns columns where there is room", () => {
        expect(renderTable(rows, 100)).toEqual([
            "pulumi  3.274.1  built  /cache/pulumi",
            "etcd    missing         wants 3.6.0 or newer; npx tsx tools/bootstrap.ts etcd",
        ]);
    });

    it("puts the last column on lines of its own where there is none, and cuts no path", () => {
        const long = { name: "x", version: "1.0.0", origin: "built", where: `/${"p".repeat(60)}` };
        const lines = renderTable([...rows, long], 44);
        expect(lines).toEqual([
            "pulumi  3.274.1  built",
            "    /cache/pulumi",
            "etcd    missing",
            "    wants 3.6.0 or newer; npx tsx",
            "    tools/bootstrap.ts etcd",
            "x       1.0.0    built",
            `    /${"p".repeat(60)}`,
        ]);
    });

    it("aligns nothing where even that is too wide", () => {
        expect(renderTable([...rows, { name: "a-rather-long-name", version: "1.0.0", origin: "built", where: "/x" }], 30)).toEqual([
            "pulumi  3.274.1  built",
            "    /cache/pulumi",
            "etcd  missing",
            "    wants 3.6.0 or newer; npx",
            "    tsx tools/bootstrap.ts",
            "    etcd",
            "a-rather-long-name  1.0.0  built",
            "    /x",
        ]);
    });

    it("has no colour codes", () => {
        expect(renderTable(rows, 100).join("")).not.toContain("\u001b");
    });
});

describe("renderPair", () => {
    const text = "one two three four five six seven eight nine ten";

    it("puts the text beside the name, its further lines below its first", () => {
        expect(renderPair("memory", text, 8, 60)).toEqual(["memory    one two three four five six seven eight nine ten"]);
        expect(renderPair("memory", text, 8, 52)).toEqual(["memory    one two three four five six seven eight", "          nine ten"]);
    });

    it("puts it below the name in a narrow terminal, and a text without a name below the one before", () => {
        expect(renderPair("memory", text, 8, 40)).toEqual(["memory", "  one two three four five six seven", "  eight nine ten"]);
        expect(renderPair("", "two", 8, 40)).toEqual(["  two"]);
    });

    it("keeps wide gaps within a line and leaves none at its ends", () => {
        const stage = "sha256:0123  src-one=local  src-two=local  src-three=local";
        expect(renderPair("stage", stage, 5, 66)).toEqual([`stage  ${stage}`]);
        expect(renderPair("stage", stage, 5, 50)).toEqual(["stage  sha256:0123 src-one=local src-two=local", "       src-three=local"]);
    });

    it("keeps one line where there is no terminal", () => {
        expect(renderPair("memory", text, 8, Infinity)).toEqual([`memory    ${text}`]);
    });
});
