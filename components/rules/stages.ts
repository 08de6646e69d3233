import type { Problem } from "../internal/errors";
import { stageTable } from "../stages/table";

/** Stages that may not be left out: the source document's second hard rule, with the exceptions that the stage table names. */
export function leftOutProblems(path: string, targets: readonly string[]): Problem[] {
    return targets.flatMap((target): Problem[] => {
        const stage = stageTable.find((candidate) => candidate.target === target);
        return stage?.lostWithout !== undefined
            ? []
            : [
                  {
                      path,
                      value: target,
                      wrong: stage === undefined ? "is no stage" : "cannot be left out",
                      accepted: stageTable
                          .filter(({ lostWithout }) => lostWithout)
                          .map((candidate) => candidate.target)
                          .join(", "),
                  },
              ];
    });
}
