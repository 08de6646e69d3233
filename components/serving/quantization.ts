/** What a checkpoint's `quantization_config` makes of its matrices: bytes of one value in each module. */
import { asConfig, asText, type ModelConfig } from "./configJson";

/** Bytes of one value of a matrix of the named module, e.g. `layers.3.mlp.experts.0.gate_proj`. */
export type BytesOf = (module: string) => number;

/** bfloat16 and float16; float32 checkpoints are loaded so too (config/model.py, `--dtype auto`). */
const plainBytes = 2;

/** undefined where the kind of quantisation is not known. */
export function quantizedWeights(config: ModelConfig): BytesOf | undefined {
    const text = asConfig(config.text_config);
    const quantization = asConfig(config.quantization_config) ?? asConfig(text?.quantization_config) ?? asConfig(config.compression_config);
    if (quantization === undefined) {
        return () => plainBytes;
    }
    const bytes = valueBytes(quantization);
    if (bytes === undefined) {
        return undefined;
    }
    const left = leftOut(quantization);
    return (module) => (left.some((matches) => matches(module)) ? plainBytes : bytes);
}

/** Bytes of a quantised value with its share of the scales of its group. */
function valueBytes(quantization: ModelConfig): number | undefined {
    const inner = asConfig(quantization.quantization) ?? quantization;
    const algorithm = (asText(inner.quant_algo) ?? "").toUpperCase();
    const method = (asText(quantization.quant_method) ?? (algorithm === "" ? "" : "modelopt"))
        .toLowerCase()
        .replace("compressed_tensors", "compressed-tensors");
    switch (method) {
        case "fp8":
        case "fbgemm_fp8":
            return 1;
        case "mxfp4":
            // Four bits, and eight for the exponent that 32 values share (OCP Microscaling, MXFP4).
            return 4 / 8 + 1 / 32;
        case "awq":
        case "gptq":
        case "awq_marlin":
        case "gptq_marlin":
            return integerBytes(quantization);
        case "bitsandbytes":
            // Eight bits, or four and a float32 for 64 values (bitsandbytes' NF4).
            return quantization.load_in_8bit === true ? 1 : 4 / 8 + 4 / 64;
        case "modelopt":
        case "modelopt_fp4":
            return algorithm.startsWith("FP8") ? 1 : algorithm.endsWith("NVFP4") || method === "modelopt_fp4" ? nvfp4Bytes : undefined;
        case "compressed-tensors":
            return compressedBytes(quantization);
        default:
            return undefined;
    }
}

/** Four bits, and an FP8 scale for 16 values. */
const nvfp4Bytes = 4 / 8 + 1 / 16;

/** A group of values has a scale of 16 bits and a zero point of their own width. */
function integerBytes({ bits = 4, group_size: group = 128 }: ModelConfig): number | undefined {
    return typeof bits !== "number" || typeof group !== "number" ? undefined : bits / 8 + (group > 0 ? (16 + bits) / group / 8 : 0);
}

function compressedBytes(quantization: ModelConfig): number | undefined {
    const groups = Object.values(asConfig(quantization.config_groups) ?? {}).map((group) => asConfig(asConfig(group)?.weights));
    const [weights] = groups;
    if (weights === undefined || groups.some((other) => other?.num_bits !== weights.num_bits) || typeof weights.num_bits !== "number") {
        return undefined;
    }
    const size = typeof weights.group_size === "number" && weights.group_size > 0 ? weights.group_size : undefined;
    if (size === undefined) {
        return weights.num_bits / 8;
    }
    return weights.type === "float" && weights.num_bits === 4 ? weights.num_bits / 8 + 1 / size : weights.num_bits / 8 + 2 / size;
}

/** Modules that stay as they are: names, the ends of names, globs and, after `re:`, expressions. */
function leftOut(quantization: ModelConfig): ((module: string) => boolean)[] {
    const inner = asConfig(quantization.quantization) ?? quantization;
    const lists = [quantization.modules_to_not_convert, quantization.ignored_layers, quantization.ignore, inner.exclude_modules];
    return lists.flatMap((list): unknown[] => (Array.isArray(list) ? list : [])).flatMap((entry) => (typeof entry === "string" ? [matcher(entry)] : []));
}

function matcher(entry: string): (module: string) => boolean {
    if (entry.startsWith("re:")) {
        const expression = safeExpression(entry.slice(3));
        return (module) => expression?.test(`model.${module}`) === true;
    }
    const named = entry.replace(/^.*?(?=layers\.)/, "");
    if (/[*?]/.test(named)) {
        const parts = named.split("*").map((part) => part.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("?", "."));
        const expression = new RegExp(`(^|\\.)${parts.join(".*")}(\\.|$)`);
        return (module) => expression.test(module);
    }
    return (module) => `.${module}.`.includes(`.${named}.`);
}

function safeExpression(text: string): RegExp | undefined {
    try {
        return new RegExp(text);
    } catch {
        return undefined;
    }
}
