import type * as pulumi from "@pulumi/pulumi";
import { isDigestReference } from "../image/reference";
import { mapInput } from "./mapInput";

/** Images of stages as BuildKit takes contexts: `REPOSITORY@DIGEST` gets its scheme; a folder, or an address with one, is left alone. */
export function stageContexts(stages: Record<string, pulumi.Input<string>>): Record<string, pulumi.Input<string>> {
    return Object.fromEntries(Object.entries(stages).map(([stage, image]) => [stage, mapInput(image, context)]));
}

function context(image: string): string {
    return isDigestReference(image) ? `docker-image://${image}` : image;
}
