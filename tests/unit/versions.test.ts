import { describe, expect, test } from "vitest";
import { isOlder } from "../../components/image/versions";

describe("one version is older than another", () => {
    test.each([
        ["13", "13.2"],
        ["12.9", "13"],
        ["2.9.9", "2.11.0"],
        ["0.19.0rc1", "0.19.0"],
        ["0.19.1.dev3+gabc", "0.19.1"],
        ["2.11.0a0+b1", "2.11.0"],
        ["26.03-py3", "26.10-py3"],
        ["v3.6.0", "v3.6.1"],
        ["main", "0.1"],
    ])("%s than %s, and not the other way round", (older, newer) => {
        expect([isOlder(older, newer), isOlder(newer, older)]).toEqual([true, false]);
    });

    test.each([
        ["2.9", "2.9.0"],
        ["13.2", "13.2"],
        ["2.11.0a0+one", "2.11.0a0+two"],
        ["v0.19.0", "0.19.0"],
        ["26.03-py3", "26.03"],
    ])("%s and %s are as new as each other", (left, right) => {
        expect([isOlder(left, right), isOlder(right, left)]).toEqual([false, false]);
    });
});
