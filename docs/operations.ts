/*
 * What each operation does in each state of a served stack: docs/operations.md shows it, tests/live/matrix.test.ts does it. In no cell is
 * data lost (the models' claim, the stack's own state, what another stack serves), and none is green while nothing serves.
 */

export const states = ["fresh", "serving"] as const;

/** What the cluster shows: a state to begin in, or one that an operation may leave. */
export type State = (typeof states)[number] | "failed";

export const meanings: Record<(typeof states)[number], string> = {
    fresh: "the stack exists, and nothing of it is deployed",
    serving: "the last update was green, and the pod serves",
};

/** A cell: whether the command ends green, what it does or says, and the state that it leaves. */
export interface Cell {
    green: boolean;
    does: string;
    leaves: State;
}

export const operations = [
    "up",
    "up again",
    "refresh",
    "up --refresh",
    "up --target",
    "up --replace",
    "cancelled up",
    "killed up",
    "import",
    "rename",
    "passphrase change",
    "backend move",
    "a second server goes",
    "destroy",
] as const;
export type Operation = (typeof operations)[number];

type Row = Record<(typeof states)[number], Cell>;

const nothing: Cell = { green: true, does: "changes nothing", leaves: "serving" };
/** The command itself touches no cluster. */
const leftAlone = (does: string): Row => ({ fresh: { green: true, does, leaves: "fresh" }, serving: { green: true, does, leaves: "serving" } });
const toServing = (does: string): Row => ({ fresh: { green: true, does, leaves: "serving" }, serving: { green: true, does, leaves: "serving" } });

export const matrix: Record<Operation, Row> = {
    up: { fresh: { green: true, does: "makes everything, and waits until it serves", leaves: "serving" }, serving: nothing },
    "up again": { fresh: { green: true, does: "the second one changes nothing", leaves: "serving" }, serving: nothing },
    refresh: leftAlone("reads what the cluster has, and changes nothing there"),
    "up --refresh": { fresh: { green: true, does: "makes everything, and waits until it serves", leaves: "serving" }, serving: nothing },
    "up --target": { fresh: { green: true, does: "makes the server", leaves: "serving" }, serving: nothing },
    "up --replace": {
        fresh: { green: false, does: "finds nothing to replace", leaves: "fresh" },
        serving: { green: true, does: "takes the old pod away first, and waits until the new one serves", leaves: "serving" },
    },
    "cancelled up": toServing("stops in the middle; the next `up` goes on from there"),
    "killed up": toServing("dies in the middle; the next `up` goes on from there"),
    import: leftAlone("takes an object of the cluster into the state, protected; the next `up` is refused until the program has it or the state forgets it"),
    rename: toServing(
        "renames the stack; the next `up` replaces nothing. Models that an earlier destroy kept are the old name's, and it names the command that hands them over",
    ),
    "passphrase change": leftAlone("encrypts the secrets anew"),
    "backend move": leftAlone("carries the state into another backend"),
    "a second server goes": toServing("removes that one alone"),
    destroy: {
        fresh: { green: true, does: "has nothing to remove", leaves: "fresh" },
        serving: { green: true, does: "removes the server, and keeps the models with their namespace", leaves: "fresh" },
    },
};

/** What is done by hand or goes wrong, and what an `up` and an `up --refresh` make of it; tests/live/state.test.ts does these. */
export const afterwards: [state: string, up: string, refreshed: string][] = [
    ["the new pod never became ready", "**red**, and red again for whoever asks next, until it serves: waits for it, and names why it does not", "not tried"],
    ["scaled to zero by `kubectl scale`", "**red**: names `spec.replicas` as changed by hand", "puts back what is declared, and waits until it serves"],
    ["another image by `kubectl set image`", "**red**: names the image as changed by hand", "puts back what is declared, and waits until it serves"],
    ["deleted by `kubectl delete`", "**red**: says that it is gone", "makes it again, and waits until it serves"],
];
