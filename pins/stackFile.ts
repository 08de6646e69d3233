import { isMap, parseDocument } from "yaml";
import type { Finding } from "./plan";

/** The stack file's text with the pins in it; comments, order and everything else stay. */
export function withPins(text: string, project: string, findings: readonly Finding[]): string {
    const document = parseDocument(text);
    for (const { name, pin } of findings) {
        if (pin !== undefined) {
            const at = name === "image.base" ? ["config", `${project}:image`, "base", "digest"] : ["config", `${project}:sources`, name, "commit"];
            const section = at.slice(0, 2);
            if (!isMap(document.getIn(section))) {
                document.setIn(section, document.createNode({}));
            }
            document.setIn(at, pin);
        }
    }
    return document.toString({ lineWidth: 0 });
}
