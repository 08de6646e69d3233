import { connectionFault, Fault } from "../internal/connectionFault";

/** What a build that failed left behind. */
export interface BuildWords {
    /** Stage of the Dockerfile; empty for the last one. */
    target: string;
    /** What the failed step printed. */
    log: readonly string[];
    /** What the engine was told, the newest first. */
    errors: readonly string[];
}

interface Kind {
    /** The line that tells it. */
    line: RegExp;
    /** In one line: what happened, the line itself, and what mends it where that is known. */
    say: (line: string, words: BuildWords) => string;
}

/**
 * Most telling first: a compiler that was killed makes its own error, the build tool's and pip's after it. The texts are those of
 * nvcc, GCC and Clang, CMake, ninja, the linkers, pip, git, bash and BuildKit.
 */
const kinds: Kind[] = [
    {
        line: /died due to signal (9|15)\b|Killed signal terminated program|^(.*: line \d+: +\d+ )?Killed\b|signal: killed|[Cc]annot allocate memory|virtual memory exhausted|std::bad_alloc|(LLVM ERROR|fatal error): out of memory|memory allocation of \d+ bytes failed|^MemoryError\b/,
        say: (line, words) => `a compiler was killed for want of memory: ${line}; ${lessMemory(words)}`,
    },
    {
        line: /died due to signal \d+|Segmentation fault|internal compiler error/,
        say: (line, words) => `a compiler crashed, often for want of memory: ${line}; ${lessMemory(words)}`,
    },
    {
        line: /No space left on device|no space left on device|\bENOSPC\b|[Dd]isk quota exceeded/,
        say: (line) => `the builder's disk is full: ${line}; free it there (buildctl prune, or buildkitd's gc settings), or give it more`,
    },
    // Our own refusals name what is accepted, and how it is mended.
    { line: /; accepted: /, say: (line) => line },
    { line: /: fatal error: \S+\.\w+: No such file or directory/, say: (line) => `${line}; a header is missing in the base image or the source` },
    {
        line: /(\(\d+\)|:\d+(:\d+)?): (fatal |catastrophic )?error\b|^(nvcc|ptxas) (fatal|error) +:|^(ld|\S*\/ld|collect2)\S*: .*(error|cannot find)|undefined reference to|^error(\[E\d+\])?: (?!subprocess-exited-with-error|command |metadata-generation-failed)/,
        say: (line) => line,
    },
    { line: /^CMake Error\b/, say: (line) => line },
    { line: /DO NOT MATCH THE HASHES/i, say: (line) => `${line}; make the lock again, or find out who changed the file` },
    {
        line: /^ERROR: (ResolutionImpossible|Cannot install .* because|Could not find a version that satisfies|No matching distribution)/,
        say: (line) => `${line}; correct the lock, or what the package index offers`,
    },
    { line: /^fatal: |^error: pathspec |^error: RPC failed/, say: (line, words) => reached(line, words) ?? line },
    { line: /^(ERROR|E): .*|^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(Error|Exception): /, say: (line, words) => reached(line, words) ?? line },
    { line: /command not found$|: not found$/, say: (line) => `${line}; a tool is missing in the base image` },
];

/** assets/vllm/build/common/run-logged. */
const firstError = /^\[[\w-]+\] first error: /;

/** Lines that only say that another one failed. */
const echoes =
    /subprocess-exited-with-error|Failed building wheel|Failed to build|metadata-generation-failed|error: command .* failed|CalledProcessError|build stopped: subcommand failed|did not complete successfully|BackendUnavailable: None/;

/** Why a build failed, in one line: the true cause, then what mends it where that is known. */
export function buildCause(words: BuildWords): string {
    const told = words.errors.join("\n");
    const step = /did not complete successfully: exit code: (\d+)/.exec(told)?.[1];
    if (step === undefined && told !== "" && !words.log.some((line) => firstError.test(line))) {
        const fault = reached(told, words);
        if (fault !== undefined) {
            return fault;
        }
    }
    // What run-logged found in the whole log comes first; of the rest there is only the end.
    const found = words.log.filter((line) => firstError.test(line));
    const lines = joined([...found, ...words.log.filter((line) => !firstError.test(line))].map(plain));
    for (const { line, say } of kinds) {
        const telling = lines.find((text) => line.test(text) && !echoes.test(text));
        if (telling !== undefined) {
            return say(short(telling), words);
        }
    }
    const status = step ?? words.log.map((line) => /failed after [\d:]+ with status (\d+)/.exec(line)?.[1]).find((found) => found !== undefined);
    switch (status) {
        case "137":
            return `the step was killed (exit status 137), mostly for want of memory; ${lessMemory(words)}`;
        case "124":
            return "the step took longer than six hours and was ended; give it more cores (stages.builderCores, stages.maxJobs)";
        default:
            return short(lines.filter((line) => /error/i.test(line) && !echoes.test(line)).at(-1) ?? words.errors[0] ?? "no reason given");
    }
}

/** What could not be reached, and why: a registry, a package index, a git host. */
function reached(text: string, { target }: BuildWords): string | undefined {
    const fault = connectionFault(text);
    if (fault === undefined) {
        return undefined;
    }
    if (fault.fault === Fault.NoSpace) {
        return kinds.find(({ line }) => line.test("no space left on device"))?.say(fault.reason, { target, log: [], errors: [] });
    }
    const host = fault.host === "" ? "the other side" : fault.host;
    return [`${host}: ${fault.wrong} (${fault.reason})`, mends[fault.fault]].filter(Boolean).join("; ");
}

const mends: Partial<Record<Fault, string>> = {
    [Fault.Authority]: "give the builder its authority (buildkitd.toml, registry.HOST.ca), and this machine (NODE_EXTRA_CA_CERTS)",
    [Fault.ClientCertificate]: "give the builder the certificate that it asks for (buildkitd.toml, registry.HOST.keypair)",
    [Fault.Expired]: "renew the certificate, and look at the clocks",
    [Fault.WrongName]: "use the name that its certificate has",
    [Fault.PlainText]: "let it speak TLS, or mark it as plain HTTP in buildkitd.toml (registry.HOST.http)",
    [Fault.NoName]: "correct the address, or the builder's DNS",
    [Fault.Refused]: "start it, or correct the address",
    [Fault.NoRoute]: "open the way from the builder",
    [Fault.Timeout]: "open the way from the builder: a firewall drops, or it is overloaded",
    [Fault.Closed]: "look at its log, and at a proxy between",
    [Fault.RateLimited]: "wait, log in, or use a mirror",
    [Fault.Credentials]: "set registry.username and registryPassword, or of a git host gitTokens, to what may do this",
    [Fault.Missing]: "correct the name, or build it again",
    [Fault.Platform]: "take an image for the builder's platform",
    [Fault.Server]: "look at its log, and at a proxy before it",
};

function lessMemory({ target }: BuildWords): string {
    const more = "give the builder more memory and say so in stages.builderMemoryGiB";
    // One compiler makes the allocator, and the image is installed by none.
    return target.startsWith("build-") && target !== "build-managed-alloc" ? `lower stages.maxJobs.${target}, or ${more}` : more;
}

/** Without colours, a logger's bracket and what run-logged puts before it. */
function plain(line: string): string {
    return line
        .replace(/\x1b\[[0-9;]*[A-Za-z]/g, "")
        .replace(/^\[[\w-]+\] (first error: )?/, "")
        .replace(/^ {2,}(?=\S*(error|Error|ERROR|Killed|fatal))/, "")
        .trimEnd();
}

/** CMake's message stands below the line that says where. */
function joined(lines: string[]): string[] {
    return lines.map((line, at) => {
        if (!/^CMake Error\b.*:$/.test(line)) {
            return line;
        }
        const message = lines.slice(at + 1, at + 8);
        const end = message.findIndex((next, index) => index > 0 && !/^\s/.test(next));
        return `${line} ${(end < 0 ? message : message.slice(0, end))
            .filter((next) => /^\s+\S/.test(next))
            .map((next) => next.trim())
            .join(" ")}`.trim();
    });
}

function short(text: string): string {
    const flat = text.replace(/\s+/g, " ").trim();
    return flat.length > 300 ? `${flat.slice(0, 297)}...` : flat;
}
