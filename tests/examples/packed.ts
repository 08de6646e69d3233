import * as fs from "node:fs";
import { afterAll, beforeAll } from "vitest";
import { emptyBackend } from "../live/programCopy";
import { packPackage, temporaryFolder } from "../package/installPackage";

const MINUTE = 60_000;

/** What the tests of one file share: the packed package, a folder for their programs, and a backend that nothing else uses. */
export interface Packed {
    backend: Awaited<ReturnType<typeof emptyBackend>>;
    folder: string;
    archive: string;
}

/** It is filled before the file's first test, and removed after its last. */
export function packed(): Packed {
    const made = {} as Packed;
    beforeAll(async () => {
        made.backend = await emptyBackend();
        made.folder = temporaryFolder();
        made.archive = packPackage(made.folder);
    }, 10 * MINUTE);
    afterAll(() => {
        made.backend?.remove();
        fs.rmSync(made.folder, { recursive: true, force: true });
    }, MINUTE);
    return made;
}
