/** Answers by their flags, as they were typed; `none` and the empty answer say that there is nothing. */
export type Answers = Record<string, string | undefined>;

/** The answer, or undefined where it is absent, empty or `none`. */
export function given(answers: Answers, flag: string): string | undefined {
    const answer = answers[flag];
    return answer === undefined || answer === "" || answer === "none" ? undefined : answer;
}
