import { isOlder } from "../image/versions";

/** A published hole of a package, as its advisory states it. */
export interface Advisory {
    /** Its number, by which anybody finds it. */
    id: string;
    /** Package by its name on PyPI. */
    package: string;
    /** First version that has it. Default: all before `fixed`. */
    introduced?: string;
    /** First version without it. Absent where the advisory names none. */
    fixed?: string;
    /** Last version that the advisory names; what comes after, it does not say. */
    lastAffected?: string;
    /** What somebody can do with it. */
    what: string;
    /** The advisory, or the record of its number. Its text was read there, or where others quote it. */
    source: string;
}

/** When these were read. What was published since, or found no way here, is not among them. */
export const advisoriesReadOn = "2026-12-01";

const osv = (id: string): string => `https://osv.dev/vulnerability/${id}`;
const github = (id: string): string => `https://github.com/advisories/${id}`;
const record = (id: string): string => `https://www.cve.org/CVERecord?id=${id}`;

export const advisories: readonly Advisory[] = [
    {
        ...{ id: "CVE-2026-48746", package: "vllm", introduced: "0.3.0", fixed: "0.22.0" },
        ...{ what: "uses the API without its key", source: "https://github.com/vllm-project/vllm/security/advisories/GHSA-94f4-hr76-p5j6" },
    },
    {
        ...{ id: "CVE-2026-47155", package: "vllm", fixed: "0.22.0" },
        ...{ what: "serves files of another revision of the model than the pinned one", source: osv("PYSEC-2026-2301") },
    },
    {
        ...{ id: "CVE-2026-9540", package: "vllm", introduced: "0.19.0", lastAffected: "0.19.0" },
        ...{ what: "stops the API from outside; an exploit is public", source: record("CVE-2026-9540") },
    },
    {
        ...{ id: "PYSEC-2026-2303", package: "vllm", introduced: "0.12.0", fixed: "0.24.0" },
        ...{ what: "kills the engine by a prompt of embeddings, which are off unless acknowledged", source: osv("PYSEC-2026-2303") },
    },
    {
        ...{ id: "CVE-2026-105754", package: "vllm", fixed: "0.30.0" },
        ...{ what: "kills the engine, or reads another request's cache, through /inference/v1/generate", source: osv("CVE-2026-105754") },
    },
    {
        ...{ id: "CVE-2026-105757", package: "vllm", fixed: "0.30.0" },
        ...{ what: "kills the engine by a request for structured output", source: osv("PYSEC-2026-4199") },
    },
    {
        ...{ id: "CVE-2026-105760", package: "vllm", fixed: "0.30.0" },
        ...{ what: "takes CPU and memory by a small video", source: github("GHSA-58v5-2m8f-94pr") },
    },
    {
        ...{ id: "CVE-2026-115911", package: "vllm", introduced: "0.19.0", fixed: "0.32.0" },
        ...{ what: "takes CPU and memory by a chat template of the request's own", source: osv("PYSEC-2026-4344") },
    },
    {
        ...{ id: "CVE-2026-105192", package: "lmcache", introduced: "0.3.9" },
        ...{ what: "runs code in the LMCache server, which unpickles what it is sent", source: record("CVE-2026-105192") },
    },
    {
        ...{ id: "CVE-2026-107204", package: "lmcache", lastAffected: "0.5.5" },
        ...{ what: "runs code through /run_script", source: record("CVE-2026-107204") },
    },
    {
        ...{ id: "CVE-2026-107205", package: "lmcache", lastAffected: "0.5.5" },
        ...{ what: "controls the coordinator, which asks for no key", source: record("CVE-2026-107205") },
    },
    {
        ...{ id: "CVE-2026-107206", package: "lmcache", lastAffected: "0.5.5" },
        ...{ what: "reads the environment and clears caches through the management API", source: record("CVE-2026-107206") },
    },
    {
        ...{ id: "CVE-2026-107207", package: "lmcache", lastAffected: "0.5.5" },
        ...{ what: "reaches other hosts through the monitoring frontend", source: record("CVE-2026-107207") },
    },
    {
        ...{ id: "CVE-2026-48710", package: "starlette", fixed: "1.0.1" },
        ...{ what: "passes a check of the path by a Host header", source: "https://github.com/Kludex/starlette/security/advisories/GHSA-86qp-5c8j-p5mr" },
    },
    {
        ...{ id: "PYSEC-2026-248", package: "starlette", fixed: "1.3.0" },
        ...{ what: "names another host by the request's path", source: osv("PYSEC-2026-248") },
    },
    {
        ...{ id: "PYSEC-2026-249", package: "starlette", introduced: "0.4.1", fixed: "1.3.1" },
        ...{ what: "takes memory by a form without limits", source: osv("PYSEC-2026-249") },
    },
    {
        ...{ id: "CVE-2026-42561", package: "python-multipart", fixed: "0.0.27" },
        ...{ what: "takes CPU by a form's headers", source: github("GHSA-pp6c-gr5w-3c5g") },
    },
    {
        ...{ id: "CVE-2026-53538", package: "python-multipart", fixed: "0.0.30" },
        ...{ what: "passes a proxy's check of a form by another separator", source: github("GHSA-6jv3-5f52-599m") },
    },
    {
        ...{ id: "PYSEC-2026-2110", package: "aiohttp", fixed: "3.14.1" },
        ...{ what: "takes memory by a long line of a request", source: osv("PYSEC-2026-2110") },
    },
    {
        ...{ id: "PYSEC-2026-4369", package: "aiohttp", fixed: "3.14.4" },
        ...{ what: "has a plain connection taken for an encrypted one", source: osv("PYSEC-2026-4369") },
    },
    {
        ...{ id: "PYSEC-2026-4371", package: "aiohttp", fixed: "3.14.4" },
        ...{ what: "smuggles a request past a proxy, where the parser in Python is used", source: osv("PYSEC-2026-4371") },
    },
    {
        ...{ id: "CVE-2026-48522", package: "pyjwt", fixed: "2.13.0" },
        ...{ what: "reads local files by a key's address", source: osv("PYSEC-2026-175") },
    },
    {
        ...{ id: "CVE-2026-4372", package: "transformers", fixed: "5.3.0" },
        ...{ what: "runs code of a model's repository, with the kernels package, whatever --trust-remote-code says", source: record("CVE-2026-4372") },
    },
    {
        ...{ id: "CVE-2026-5241", package: "transformers", lastAffected: "5.2.0" },
        ...{ what: "runs code of a LightGlue model's repository, whatever --trust-remote-code says", source: osv("PYSEC-2026-2290") },
    },
    {
        ...{ id: "CVE-2025-69872", package: "diskcache", lastAffected: "5.6.3" },
        ...{ what: "runs code left in the cache's folder", source: osv("PYSEC-2026-2447") },
    },
];

/** One version of a package that an image holds. */
export interface Installed {
    package: string;
    version: string;
}

/** Whether an advisory is of this version. */
export function concerns({ package: name, introduced, fixed, lastAffected }: Advisory, installed: Installed): boolean {
    const { version } = installed;
    const after = introduced === undefined || !isOlder(version, introduced);
    const before = (fixed === undefined || isOlder(version, fixed)) && (lastAffected === undefined || !isOlder(lastAffected, version));
    return name === installed.package && after && before;
}

/** A line for each version with a known hole, the numbers of all of its advisories in it; none where there is none. */
export function knownHoleLines(installed: readonly Installed[]): string[] {
    return installed.flatMap((one) => {
        const found = advisories.filter((advisory) => concerns(advisory, one));
        const fixes = found.flatMap(({ fixed }) => fixed ?? []);
        const newest = fixes.reduce((a, b) => (isOlder(a, b) ? b : a), fixes[0] ?? "");
        const mended = fixes.length < found.length ? "no release is named that mends all" : `mended in ${newest}`;
        return found.length === 0 ? [] : [`${one.package} ${one.version}: ${found.map(({ id }) => id).join(", ")}; ${mended}`];
    });
}

/** The packages of a lock of pip's, by the names that PyPI compares. */
export function lockedPackages(lock: string): Installed[] {
    return [...lock.matchAll(/^([A-Za-z0-9._-]+)==([^\s\\;]+)/gm)].map(([, name = "", version = ""]) => ({
        package: name.toLowerCase().replace(/[._-]+/g, "-"),
        version,
    }));
}
