import * as fs from "node:fs";
import { assetsFile } from "../internal/assets";

/** The numbers of the HBM account, each with its source in the file itself. */
export interface HbmAccount {
    driverMiB: number;
    contextMiB: number;
    /** On a small card contextMiB is at most this share of it. */
    contextMostShare: number;
    /** Share of the board's total that stays free. */
    reserveShare: number;
    reserveLeastMiB: number;
    /** On a small card reserveLeastMiB is at most this share of it. */
    reserveMostShare: number;
    /** Share of the total by which a card may have less than was planned. */
    toleranceShare: number;
}

let account: HbmAccount | undefined;

/** `assets/vllm/managed_mem/hbm.json`, which the launcher in the image reads too. */
export function hbmAccount(): HbmAccount {
    account ??= JSON.parse(fs.readFileSync(assetsFile("vllm", "managed_mem/hbm.json"), "utf8")) as HbmAccount;
    return account;
}
