/**
 * What a GPU's product name says, as nvidia-smi prints it: «NVIDIA GH200 480GB» (GH200 120GB and 480GB are the sizes of the
 * LPDDR beside 96 GB of HBM3), «NVIDIA GH200 144G HBM3e» and «NVIDIA GH200 96GB HBM3» (the sizes of the HBM).
 */

/** H100, H200, H20, GB200 and GB300 are not; H20 has a GH200's 97,871 MiB. */
export function isGh200(name: string): boolean {
    return /\bGH200\b/i.test(name);
}

/** LPDDR5X beside one GH200 in MiB, where its name says so. */
export function lpddrOfProduct(name: string | undefined): number | undefined {
    const gib = /\bGH200[ -](120|240|480)\s?GB\b/i.exec(name ?? "")?.[1];
    return gib === undefined ? undefined : Number(gib) * 1024;
}

/** nvidia-smi's total of the two HBM sizes that a name may state (maxtext#3520 and a 144G node's own nvidia-smi). */
const totalMiB: Record<string, number> = { 96: 97_871, 144: 146_831 };

/** HBM of one GH200 in MiB, where its name says so. */
export function hbmOfProduct(name: string | undefined): number | undefined {
    const gb = /\bGH200[ -](96|144)\s?GB?\b/i.exec(name ?? "")?.[1];
    return gb === undefined ? undefined : totalMiB[gb];
}
