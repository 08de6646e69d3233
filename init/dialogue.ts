import { problemLine } from "../components/internal/errors";
import { bold, green, red } from "../sandbox/report";
import type { Answers } from "./answers";
import { answerProblems, byFlag, missingProblems } from "./problems";
import { applicable, type Question, type Step } from "./questions";
import type { Terminal } from "./terminal";

/**
 * Asks for each answer that is not given, checks it as it is entered, and looks behind each address. What does
 * not answer is told and may be kept: a stack file can be written before its builder is there.
 */
export async function askAll(steps: readonly Step[], start: Answers, terminal: Terminal): Promise<Answers> {
    let answers = start;
    for (const step of steps) {
        answers = await askStep(step, answers, terminal);
    }
    return answers;
}

async function askStep(step: Step, start: Answers, terminal: Terminal): Promise<Answers> {
    let offered: Answers = {};
    for (let answers = start; ;) {
        terminal.say(step.title, bold);
        const asked = await askQuestions(step.questions, answers, offered, terminal);
        // An answer may be refused because of one that came after it.
        const left = asked === undefined ? [] : answerProblems(asked).filter(({ path }) => step.questions.some(({ flag }) => path === `--${flag}`));
        left.forEach((problem) => terminal.say(`  ${problemLine(problem)}`, red));
        if (asked !== undefined && left.length === 0 && (await isReached(step, asked, terminal))) {
            return asked;
        }
        // Again from the beginning of the step, with what was said as the offer.
        offered = { ...asked };
        answers = Object.fromEntries(Object.entries(start).filter(([flag]) => !step.questions.some((question) => question.flag === flag)));
    }
}

/** Undefined where a consent was refused. */
async function askQuestions(questions: readonly Question[], start: Answers, offered: Answers, terminal: Terminal): Promise<Answers | undefined> {
    let answers = start;
    for (const question of questions) {
        if (applicable(question, answers)) {
            const answer = await settledAnswer(question, answers, offered[question.flag] ?? question.preset?.(answers), terminal);
            if (answer === undefined) {
                return undefined;
            }
            answers = { ...answers, [question.flag]: answer };
        }
    }
    return answers;
}

/** The answer that was given by a flag or is typed; asked until nothing is wrong with it. */
async function settledAnswer(question: Question, answers: Answers, offer: string | undefined, terminal: Terminal): Promise<string | undefined> {
    const { flag } = question;
    if (answers[flag] === undefined) {
        terminal.say(question.consent ? question.asks : `${question.asks} (${question.choices ? "by name or number" : question.accepts})`);
        question.choices?.().forEach(([answer, meaning], index) => terminal.say(`  ${index + 1}  ${answer}: ${meaning}`));
    }
    for (let answer = answers[flag]; ; answer = undefined) {
        answer ??= await typedAnswer(question, offer, terminal);
        const tried = { ...answers, [flag]: answer };
        const problems = answer === "" ? missingProblems({ ...answers, [flag]: undefined }) : answerProblems(tried);
        const own = problems.filter(({ path }) => path === `--${flag}`);
        own.forEach((problem) => terminal.say(`  ${problemLine(problem)}`, red));
        if (own.length === 0) {
            return answer;
        }
        if (question.consent) {
            return undefined;
        }
    }
}

async function typedAnswer(question: Question, offer: string | undefined, terminal: Terminal): Promise<string> {
    const answer = (await terminal.ask(`--${question.flag}${offer === undefined ? "" : ` [${offer}]`}: `)) || (offer ?? "");
    if (question.consent) {
        return isYes(answer) ? "yes" : "no";
    }
    return question.choices?.()[Number(answer) - 1]?.[0] ?? answer;
}

async function isReached(step: Step, answers: Answers, terminal: Terminal): Promise<boolean> {
    if (step.reach === undefined || answers.offline === "yes") {
        return true;
    }
    const { found, problems } = await step.reach(answers);
    found.forEach((line) => terminal.say(`  ${line}`, green));
    if (problems.length === 0) {
        return true;
    }
    byFlag(answers, problems).forEach((problem) => terminal.say(`  warning: ${problemLine(problem)}`, red));
    return confirm("Keep it all the same?", terminal);
}

export async function confirm(question: string, terminal: Terminal): Promise<boolean> {
    return isYes((await terminal.ask(`${question} [yes]: `)) || "yes");
}

function isYes(answer: string): boolean {
    return /^y(es)?$/i.test(answer);
}
