import type { Answers } from "../../init/answers";
import { answerProblems } from "../../init/problems";
import { problemLine } from "../../components/internal/errors";

/** A complete set of answers that nothing is wrong with. */
export const completeAnswers: Answers = {
    stack: "prod",
    builder: "tcp://localhost:1234",
    registry: "registry.example/vllm",
    repository: "gh200-vllm-cmm",
    user: "none",
    context: "none",
    node: "none",
    profile: "driver",
    "builder-place": "elsewhere",
    "builder-memory": "400",
    "builder-cores": "72",
    managed: "200",
    model: "Qwen/Qwen2.5-7B-Instruct",
    "max-model-len": "8192",
    weights: "14.2",
    "model-config": "none",
    approver: "none",
};

/** What is wrong with the answers, as `npm run init` prints it. */
export const answerLines = (answers: Answers) => answerProblems(answers).map(problemLine);
