import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { temporaryFolders } from "../tests/support/temporaryFolder";
import { UpdateEvents, lineFilter } from "./events";

const temporary = temporaryFolders();
const urn = "urn:pulumi:sandbox::gh200-vllm::gh200-vllm:index:BuildStage$docker-build:index:Image::gh200-build-triton";
const type = "docker-build:index:Image";

function written(...events: object[]): UpdateEvents {
    const file = path.join(temporary(), "events.json");
    const reader = new UpdateEvents(file);
    for (const event of events) {
        // Half a line at a time, as a reader that is faster than the writer sees it.
        const line = `${JSON.stringify(event)}\n`;
        fs.appendFileSync(file, line.slice(0, 40));
        reader.read();
        fs.appendFileSync(file, line.slice(40));
        reader.read();
    }
    return reader;
}

test("an image that is built is timed, one that stays is not", () => {
    const built = [{ resourcePreEvent: { metadata: { op: "update", urn, type } } }, { resOutputsEvent: { metadata: { urn } } }];
    expect(written(...built).seconds).toEqual({ "gh200-build-triton": expect.any(Number) });
    const same = [{ resourcePreEvent: { metadata: { op: "same", urn, type } } }, { resOutputsEvent: { metadata: { urn } } }];
    expect(written(...same).seconds).toEqual({});
});

test.each([
    ["@ updating......", undefined],
    [" +  docker-build:index:Image gh200-build-triton creating (0s) ", " +  docker-build:index:Image gh200-build-triton creating (0s) "],
    [" +  docker-build:index:Image gh200-build-triton creating (17s) #14 DONE 16.7s", undefined],
    [" ~  docker-build:index:Image gh200-image updating (1s) [diff: ~context,tags]; #2 DONE 0.0s", undefined],
    [
        " ~  docker-build:index:Image gh200-image updated (24s) [diff: ~context,tags]; #18 resolving provenance",
        " ~  docker-build:index:Image gh200-image updated (24s) [diff: ~context,tags]",
    ],
    [
        " +  docker-build:index:Image gh200-build-triton creating (2s) error: failed to solve",
        " +  docker-build:index:Image gh200-build-triton creating (2s) error: failed to solve",
    ],
    ["Resources:", "Resources:"],
])("a line of Pulumi's: %s", (line, shown) => {
    expect(lineFilter()(line)).toBe(shown);
});

test("a beginning is shown once, trouble and empty lines each time", () => {
    const begins = " +  docker-build:index:Image gh200-build-triton creating (0s) ";
    const trouble = " +  kubernetes:apps/v1:Deployment gh200-vllm creating (0s) warning: no node";
    const filter = lineFilter();
    expect([begins, begins, "", trouble, trouble, ""].map(filter)).toEqual([begins, undefined, "", trouble, trouble, ""]);
});
