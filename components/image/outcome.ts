import * as pulumi from "@pulumi/pulumi";
import { type Problem, refuse } from "../internal/errors";

/** Why an image that was built again must not be used; empty where it is the expected one, or none is expected. */
export function outcomeProblems(name: string, reference: string, expected: string | undefined): Problem[] {
    const digest = digestOf(reference);
    return expected === undefined || digest === expected
        ? []
        : [
              {
                  path: name,
                  value: digest,
                  wrong: "came out as another image than before, from the same sources",
                  accepted: expected,
                  fix: "a preview names it as a change to approve; find out first what differs",
              },
          ];
}

/** `reference`, `REPOSITORY@DIGEST`, once it is the expected one. A preview builds nothing and refuses nothing. */
export function onceExpected(name: string, reference: pulumi.Output<string>, expected: string | undefined): pulumi.Output<string> {
    return reference.apply((built) => {
        refuse(pulumi.runtime.isDryRun() ? [] : outcomeProblems(name, built, expected));
        return built;
    });
}

export const digestOf = (reference: string): string => reference.split("@")[1] ?? "";
