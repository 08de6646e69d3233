import * as pulumi from "@pulumi/pulumi";
import { isDigestReference } from "../image/reference";

/** Images of stages as BuildKit takes contexts: `REPOSITORY@DIGEST` gets its scheme; a folder, or an address with one, is left alone. */
export function stageContexts(stages: Record<string, pulumi.Input<string>>): Record<string, pulumi.Input<string>> {
    return Object.fromEntries(
        Object.entries(stages).map(([stage, image]) => [stage, typeof image === "string" ? context(image) : pulumi.output(image).apply(context)]),
    );
}

function context(image: string): string {
    return isDigestReference(image) ? `docker-image://${image}` : image;
}
