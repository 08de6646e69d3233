import * as pulumi from "@pulumi/pulumi";
import { isEventual } from "./resolve";

/** What is made of an input: at once where it is known, so that a mistake ends the program before its first resource. */
export function mapInput<A, B>(input: pulumi.Input<A>, map: (known: A) => B): pulumi.Input<B> {
    return isEventual(input) ? pulumi.output(input).apply<B>((known) => map(known as A)) : map(input as A);
}
