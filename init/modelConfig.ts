import * as fs from "node:fs";
import type { Problem } from "../components/internal/errors";
import type { ModelShapeArgs } from "../components/serving/vllmServerArgs";

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

/** The shape of a decoder, from its config.json and the size of its weights. */
export function modelShape(file: string, weightsGiB: number | undefined): ModelShapeArgs | Problem {
    const problem = (wrong: string): Problem => ({
        path: "--model-config",
        value: file,
        wrong,
        accepted: "the config.json of a decoder, as Hugging Face has it",
    });
    let parsed: Record<string, unknown>;
    try {
        parsed = JSON.parse(fs.readFileSync(file, "utf8")) as Record<string, unknown>;
    } catch (error) {
        return problem(error instanceof SyntaxError ? "is no JSON" : `cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
    // A model that also sees or hears keeps its decoder's sizes one level down.
    const decoder = (parsed.text_config ?? parsed) as Record<string, unknown>;
    const number = (key: string): number | undefined => (typeof decoder[key] === "number" ? decoder[key] : undefined);
    const heads = number("num_attention_heads");
    const hidden = number("hidden_size");
    const layers = number("num_hidden_layers");
    const kvHeads = number("num_key_value_heads") ?? heads;
    const headDim = number("head_dim") ?? (hidden !== undefined && heads !== undefined ? hidden / heads : undefined);
    if (layers === undefined || kvHeads === undefined || headDim === undefined) {
        return problem("lacks num_hidden_layers, num_attention_heads or hidden_size");
    }
    return weightsGiB === undefined
        ? {
              path: "--weights",
              wrong: "is missing, without which the model's fit cannot be computed",
              accepted: "size of all weights in GiB",
              fix: "give it, or leave --model-config out",
          }
        : { weightsGiB, layers, kvHeads, headDim };
}
