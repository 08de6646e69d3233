import { describe, expect, it } from "vitest";
import { atLeast, parseVersion, pinnedVersion } from "./versions";

describe("parseVersion", () => {
    it.each([
        ["v3.274.1", "3.274.1"],
        ["buildkitd github.com/moby/buildkit v0.34.2 abcdef", "0.34.2"],
        ["containerd github.com/containerd/containerd/v2 v2.4.2 ", "2.4.2"],
        ["registry github.com/distribution/distribution/v3 v3.1.2+unknown", "3.1.2"],
        ["etcd Version: 3.6.16\nGit SHA: GitNotFound\nGo Version: go1.26.8", "3.6.16"],
        ["Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", "1.32.4"],
        ["github.com/docker/buildx v0.0.0+unknown", "0.0.0"],
    ])("reads %j as %s", (answer, version) => {
        expect(parseVersion(answer)).toBe(version);
    });

    it.each(["", "Docker version unknown", "192.168.1.20", "v3"])("finds none in %j", (answer) => {
        expect(parseVersion(answer)).toBeUndefined();
    });
});

describe("atLeast", () => {
    it.each([
        ["3.270.0", "3.270.0", true],
        ["3.99.9", "3.270.0", false],
        ["4.0.0", "3.270.0", true],
        ["1.37.2", "1.36.0", true],
        ["1.9.10", "1.9.9", true],
        ["0.34.1", "0.34.2", false],
    ])("%s is at least %s: %s", (version, minimum, expected) => {
        expect(atLeast(version, minimum)).toBe(expected);
    });
});

describe("pinnedVersion", () => {
    const goMod =
        "module x\n\ngo 1.26.0\n\ntool example.org/a/v2/cmd/a\n\nrequire example.org/b v0.1.0\n\nrequire (\n\texample.org/a/v2 v2.3.4 // indirect\n\texample.org/a v1.0.0\n)\n";

    it("reads the module itself, not one whose name it begins", () => {
        expect(pinnedVersion(goMod, "example.org/a")).toBe("1.0.0");
        expect(pinnedVersion(goMod, "example.org/a/v2")).toBe("2.3.4");
        expect(pinnedVersion(goMod, "example.org/b")).toBe("0.1.0");
    });

    it("says which module is not required", () => {
        expect(() => pinnedVersion(goMod, "example.org/c")).toThrow(/go\.mod: example\.org\/c: is not required/);
    });
});
