import * as fs from "node:fs";
import * as path from "node:path";
import type { Problem } from "../components/internal/errors";

/** Who may approve is what the state remembers, so a change that chooses another state would choose its own approver. */
export async function backendProblems(root: string): Promise<Problem[]> {
    const { parse } = await import("yaml");
    const project = parse(fs.readFileSync(path.join(root, "Pulumi.yaml"), "utf8")) as { backend?: unknown } | null;
    return project?.backend === undefined
        ? []
        : [
              {
                  path: "Pulumi.yaml: backend",
                  wrong: "chooses the state, which remembers who approves",
                  accepted: "none on a stack under approval",
                  fix: "set PULUMI_BACKEND_URL where updates run",
              },
          ];
}
