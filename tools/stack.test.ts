import { describe, expect, it } from "vitest";
import { stackOf, withConfigFile } from "./stack";

describe("stackOf", () => {
    it.each([
        [["up", "-s", "gh200"], "gh200"],
        [["preview", "--stack", "gh200"], "gh200"],
        [["preview", "--stack=gh200"], "gh200"],
        [["preview", "-sgh200"], "gh200"],
        [["stack", "output"], undefined],
        [["config", "set", "key", "--", "--stack"], undefined],
    ])("%j names %s", (args, stack) => {
        expect(stackOf(args, {})).toBe(stack);
    });

    it("falls back to what Pulumi itself falls back to", () => {
        expect(stackOf(["up"], { PULUMI_STACK: "sandbox" })).toBe("sandbox");
        expect(stackOf(["up", "-s", "gh200"], { PULUMI_STACK: "sandbox" })).toBe("gh200");
    });
});

describe("withConfigFile", () => {
    it("follows the command, so that arguments of subcommands stay in order", () => {
        expect(withConfigFile(["config", "set", "a", "b"], "/s.yaml")).toEqual(["config", "--config-file", "/s.yaml", "set", "a", "b"]);
        expect(withConfigFile(["--non-interactive", "up", "--yes"], "/s.yaml")).toEqual(["--non-interactive", "up", "--config-file", "/s.yaml", "--yes"]);
    });

    it.each([[["stack", "output"]], [["version"]], [[]], [["up", "--config-file", "mine.yaml"]], [["up", "--config-file=mine.yaml"]]])(
        "leaves %j alone",
        (args) => {
            expect(withConfigFile(args, "/s.yaml")).toEqual(args);
        },
    );
});
