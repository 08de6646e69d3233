import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { advisories, type Advisory, concerns, knownHoleLines, lockedPackages } from "../../components/rules/advisories";
import { dockerfileVersions } from "../../components/rules/versions";
import { repositoryRoot } from "../support/stackFile";

const read = (file: string) => fs.readFileSync(path.join(repositoryRoot, file), "utf8");
const dockerfile = read("assets/vllm/Dockerfile");
const locks = ["assets/vllm/locks", "assets/lmcache/locks"].flatMap((folder) =>
    fs.readdirSync(path.join(repositoryRoot, folder)).map((file) => read(`${folder}/${file}`)),
);
const built = [
    { package: "vllm", version: dockerfileVersions(dockerfile).vllm! },
    { package: "lmcache", version: /^ARG LMCACHE_RELEASE=(.+)$/m.exec(dockerfile)![1]! },
    ...locks.flatMap(lockedPackages),
];

test.each(advisories.map((advisory) => [advisory.id, advisory]))("%s is of something that is built here, and says since when or until when", (_, advisory) => {
    expect(built.filter((one) => concerns(advisory, one))).not.toEqual([]);
    expect(advisory.fixed ?? advisory.lastAffected ?? advisory.introduced).toMatch(/^\d+(\.\d+)+$/);
    expect(advisory.id).toMatch(/^(CVE-\d{4}-\d{4,}|PYSEC-\d{4}-\d+|GHSA(-[0-9a-z]{4}){3})$/);
    expect(advisory.source).toMatch(/^https:\/\/(osv\.dev|github\.com|www\.cve\.org)\/\S+$/);
});

test("each stands once", () => expect(new Set(advisories.map(({ id }) => id)).size).toBe(advisories.length));

describe("an advisory", () => {
    const of = (range: Partial<Advisory>): Advisory => ({ id: "CVE-2026-0001", package: "a", what: "", source: "", ...range });
    test.each<[string, Partial<Advisory>, string[], string[]]>([
        ["below a version", { fixed: "1.2.0" }, ["0.9", "1.1.9", "1.2.0rc1"], ["1.2.0", "1.10"]],
        ["from one to below another", { introduced: "0.9", fixed: "0.22.0" }, ["0.9", "0.19.0"], ["0.8.9", "0.22.0"]],
        ["up to a version", { lastAffected: "5.2.0" }, ["4.57.6", "5.2.0"], ["5.2.1"]],
        ["from a version on", { introduced: "0.3.9" }, ["0.3.9", "9"], ["0.3.8"]],
    ])("%s", (_, range, concerned, others) => {
        const hit = (version: string) => concerns(of(range), { package: "a", version });
        expect([concerned.every(hit), others.some(hit)]).toEqual([true, false]);
        expect(concerns(of(range), { package: "b", version: concerned[0]! })).toBe(false);
    });
});

describe("the known holes of what is built", () => {
    test("are a line for each version, with what mends all of them, where something does", () => {
        const lines = knownHoleLines(built);
        expect(lines).toContain(
            "vllm 0.19.0: CVE-2026-48746, CVE-2026-47155, CVE-2026-9540, PYSEC-2026-2303, CVE-2026-105754, CVE-2026-105757, CVE-2026-105760, CVE-2026-115911; no release is named that mends all",
        );
        expect(lines).toContain("aiohttp 3.13.5: PYSEC-2026-2110, PYSEC-2026-4369, PYSEC-2026-4371; mended in 3.14.4");
        expect(lines.filter((line) => line.startsWith("starlette ")).map((line) => line.split(":")[0])).toEqual(["starlette 0.52.1", "starlette 1.0.0"]);
    });

    test("are none of a version that mends them", () => {
        expect(
            knownHoleLines([
                { package: "aiohttp", version: "3.14.4" },
                { package: "starlette", version: "1.3.1" },
                { package: "unknown", version: "1" },
            ]),
        ).toEqual([]);
    });
});

test("a lock's packages are read by the names that PyPI compares", () => {
    const lock = "# from x\nPython_Multipart==0.0.26 \\\n    --hash=sha256:00\nruamel.yaml==1.0; python_version > '3'\n-c other.txt\n";
    expect(lockedPackages(lock)).toEqual([
        { package: "python-multipart", version: "0.0.26" },
        { package: "ruamel-yaml", version: "1.0" },
    ]);
});
