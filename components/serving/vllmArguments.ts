import { vllmOptions } from "./vllmOptions";

/** One option of `vllm serve`, as its parser takes it (vllm/utils/argparse_utils.py over Python's argparse). */
export interface VllmArgument {
    /** The option's first name, e.g. `--tensor-parallel-size` for `-tp` and for `--tensor-par`. */
    option: string;
    /** As it was written. */
    written: string;
    /** Keys after the option's first dot: `kv_connector` of `--kv-transfer-config.kv_connector`. */
    keys: string[];
    /** What follows it; none for a switch. */
    values: string[];
    /** Whether vLLM knows an option of this name. */
    known: boolean;
    /** Options that an abbreviation could mean, where there are several: vLLM then ends at once. */
    ambiguous: string[];
}

export interface VllmArguments {
    options: VllmArgument[];
    /** What belongs to no option: vLLM would take it for another model. */
    stray: string[];
}

/** Short names, and `--no-` forms stay options of their own. */
const longNames: Readonly<Record<string, string>> = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dpa": "--data-parallel-address",
    "-dpb": "--data-parallel-backend",
    "-dpe": "--data-parallel-external-lb",
    "-dph": "--data-parallel-hybrid-lb",
    "-dpl": "--data-parallel-size-local",
    "-dpn": "--data-parallel-rank",
    "-dpp": "--data-parallel-rpc-port",
    "-dpr": "--data-parallel-start-rank",
    "-dcp": "--decode-context-parallel-size",
    "-pcp": "--prefill-context-parallel-size",
    "-ep": "--enable-expert-parallel",
    "-asc": "--api-server-count",
    "-sc": "--speculative-config",
    "-cc": "--compilation-config",
    "-ac": "--attention-config",
    "-n": "--nnodes",
    "-r": "--node-rank",
    "-q": "--quantization",
    "-h": "--help",
    "-O": "--optimization-level",
};

export function parseVllmArguments(args: readonly string[]): VllmArguments {
    const parsed: VllmArguments = { options: [], stray: [] };
    let rest = false;
    for (const arg of args) {
        const last = parsed.options.at(-1);
        if (!rest && isOption(arg)) {
            rest = arg === "--";
            parsed.options.push(...(rest ? [] : [option(arg)]));
        } else if (rest || last === undefined || last.written.includes("=")) {
            parsed.stray.push(arg);
        } else {
            last.values.push(arg);
        }
    }
    return parsed;
}

/** The text of an option's last mention, which is the one that counts; undefined where it is not given. */
export function lastValue({ options }: VllmArguments, name: string): string | undefined {
    return options
        .filter(({ option, keys }) => option === name && keys.length === 0)
        .at(-1)
        ?.values.at(0);
}

/** A JSON option put together from its text and its dotted keys. */
export function jsonValue({ options }: VllmArguments, name: string): Record<string, unknown> | undefined {
    const mentions = options.filter(({ option }) => option === name);
    if (mentions.length === 0) {
        return undefined;
    }
    const whole = mentions
        .filter(({ keys }) => keys.length === 0)
        .at(-1)
        ?.values.join(" ");
    const start = whole === undefined ? {} : parsedObject(whole);
    return mentions.reduce((json, { keys, values }) => (keys.length === 0 ? json : withKey(json, keys, values.join(" "))), start);
}

/** argparse: a negative number is a value, and so is what has a space. */
function isOption(arg: string): boolean {
    return arg.startsWith("-") && arg.length > 1 && !/^-\d+$|^-\d*\.\d+$/.test(arg) && !/^[^=]* /.test(arg);
}

function option(arg: string): VllmArgument {
    const optimization = /^-O=?(.+)$/.exec(arg);
    if (optimization !== null) {
        return { option: longNames["-O"]!, written: arg, keys: [], values: [optimization[1]!], known: true, ambiguous: [] };
    }
    const equals = arg.indexOf("=");
    const [name = "", ...keys] = (equals < 0 ? arg : arg.slice(0, equals)).split(".");
    const dashed = name.startsWith("--") ? name.replaceAll("_", "-") : name;
    return { ...resolved(dashed), written: arg, keys: keys.map((key) => key.replace(/\+$/, "")), values: equals < 0 ? [] : [arg.slice(equals + 1)] };
}

/** An option's name, its short name, or a beginning that no other option has. */
function resolved(name: string): Pick<VllmArgument, "option" | "known" | "ambiguous"> {
    const exact = vllmOptions.includes(name) || Object.hasOwn(longNames, name);
    const candidates = exact ? [name] : vllmOptions.filter((known) => known.startsWith(name));
    const names = [...new Set(candidates.map((candidate) => longNames[candidate] ?? candidate))];
    return names.length === 1 ? { option: names[0]!, known: true, ambiguous: [] } : { option: name, known: false, ambiguous: names };
}

function parsedObject(text: string): Record<string, unknown> {
    try {
        const json: unknown = JSON.parse(text);
        return typeof json === "object" && json !== null ? (json as Record<string, unknown>) : {};
    } catch {
        return {};
    }
}

function withKey(json: Record<string, unknown>, [key = "", ...keys]: string[], value: string): Record<string, unknown> {
    const inner = json[key];
    const nested = typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>) : {};
    return { ...json, [key]: keys.length === 0 ? value : withKey(nested, keys, value) };
}
