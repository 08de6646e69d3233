import * as fs from "node:fs";
import * as path from "node:path";
import type { Problem } from "../components/internal/errors";
import { parseConfig } from "../components/serving/configJson";
import { readModelConfig } from "../components/serving/modelConfig";
import type { ModelShapeArgs } from "../components/serving/modelShapeArgs";

/** A Hugging Face name as huggingface_hub's validate_repo_id accepts it, or a path in the image or cache. */
const huggingFaceName = /^(?=.{1,96}$)(?!.*(?:--|\.\.))(?:[A-Za-z0-9_][A-Za-z0-9_.-]*\/)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?$/;

export function modelNameProblems(model: string): Problem[] {
    return /^\/\S+$/.test(model) || (huggingFaceName.test(model) && !model.endsWith(".git"))
        ? []
        : [
              {
                  path: "--model",
                  value: model,
                  wrong: "is no name of a model",
                  accepted: "NAME or OWNER/NAME of Hugging Face, or an absolute path in the image or cache",
              },
          ];
}

const GIB = 2 ** 30;
const configFile = "config.json";

/** A model as its files describe it. */
export interface DescribedModel {
    shape: ModelShapeArgs;
    /** What a person should know of how the shape came about, a line each. */
    remarks: string[];
}

/**
 * The shape of a decoder from its config.json, or from the folder that has it; a file of that name stands for its folder. Weights are those that were given, those of
 * the folder's files, or what follows from the sizes in config.json.
 */
export function describeModel(place: string, givenGiB: number | undefined): DescribedModel | Problem {
    const problem = (wrong: string): Problem => ({
        path: "--model-config",
        value: place,
        wrong,
        accepted: "the config.json of a decoder, as Hugging Face has it, or the folder that has it",
    });
    let text: string;
    let folder: string | undefined;
    try {
        folder = fs.statSync(place).isDirectory() ? place : path.basename(place) === configFile ? path.dirname(place) : undefined;
        text = fs.readFileSync(folder === undefined ? place : path.join(folder, configFile), "utf8");
    } catch (error) {
        return problem(`cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
    const config = parseConfig(text);
    if (config === undefined) {
        return problem("is no JSON object");
    }
    const { attention, unknown, kvValueBytes, maxPositionTokens, weights } = readModelConfig({ ...quantizationBeside(folder), ...config });
    const filesGiB = folder === undefined ? undefined : weightFilesGiB(folder);
    const weightsGiB = givenGiB ?? filesGiB ?? (weights && round(weights.bytes / GIB));
    if (weightsGiB === undefined) {
        return {
            path: "--weights",
            wrong: `is missing, and the weights cannot be computed from ${place}${unknown === undefined ? "" : ` (${unknown})`}`,
            accepted: "size of all weights in GiB",
            fix: "give it, or leave --model-config out",
        };
    }
    const active = weights && round((weightsGiB * weights.activeBytes) / weights.bytes);
    return {
        shape: {
            weightsGiB,
            ...(active !== undefined && active < weightsGiB && { activeWeightsGiB: active }),
            ...(attention !== undefined && { attention }),
            ...(kvValueBytes !== undefined && { kvValueBytes }),
            ...(maxPositionTokens !== undefined && { maxPositionTokens }),
        },
        remarks: [
            ...(givenGiB === undefined
                ? [
                      `weights ${weightsGiB} GiB, ${filesGiB === undefined ? "computed from config.json, of the decoder alone" : "the folder's files"}; --weights says otherwise`,
                  ]
                : []),
            ...(attention === undefined ? [`how this model caches is not known (${unknown}): its KV cache is unchecked`] : []),
        ],
    };
}

/** What older checkpoints of ModelOpt say of their quantisation in a file of its own, which vLLM reads too. */
function quantizationBeside(folder: string | undefined): { quantization_config?: unknown } {
    const file = folder && path.join(folder, "hf_quant_config.json");
    const quantization = file !== undefined && fs.existsSync(file) ? parseConfig(fs.readFileSync(file, "utf8")) : undefined;
    return quantization === undefined ? {} : { quantization_config: quantization };
}

/** The size of a folder's weights: what its index says of them all, or its safetensors files. */
function weightFilesGiB(folder: string): number | undefined {
    const index = path.join(folder, "model.safetensors.index.json");
    const total = fs.existsSync(index)
        ? (parseConfig(fs.readFileSync(index, "utf8"))?.metadata as { total_size?: unknown } | undefined)?.total_size
        : undefined;
    const bytes =
        typeof total === "number"
            ? total
            : fs
                  .readdirSync(folder)
                  .filter((file) => file.endsWith(".safetensors"))
                  .reduce((sum, file) => sum + fs.statSync(path.join(folder, file)).size, 0);
    return bytes > 0 ? round(bytes / GIB) : undefined;
}

/** A hundredth of a GiB, which is more than any plan is worth. */
function round(gib: number): number {
    return Math.max(0.01, Math.round(gib * 100) / 100);
}
