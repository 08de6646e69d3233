/**
 * What kept one program from having something of another, told from what it printed: Go's words (containerd, BuildKit, the
 * kubelet), Node's and OpenSSL's (this program), git's and curl's. Pure.
 */

/** What kind of fault it is. */
export const Fault = {
    /** The disk of whoever fetched or kept it is full. */
    NoSpace: "no-space",
    /** The server refuses the certificate that the client shows. */
    ClientCertificate: "client-certificate",
    /** The client does not know the authority that signed the server's certificate. */
    Authority: "authority",
    /** The server's certificate is past its time, or not yet in it. */
    Expired: "expired",
    /** The server's certificate is for another name. */
    WrongName: "wrong-name",
    /** One side speaks TLS and the other does not. */
    PlainText: "plain-text",
    /** Any other failure of TLS. */
    Tls: "tls",
    /** The host's name has no address. */
    NoName: "no-name",
    /** The host is there, and nothing listens at the port. */
    Refused: "refused",
    /** No way leads to the host. */
    NoRoute: "no-route",
    /** No answer came in time. */
    Timeout: "timeout",
    /** The connection was closed in the middle. */
    Closed: "closed",
    /** 429: more was asked for than is allowed. */
    RateLimited: "rate-limited",
    /** 401, 403, or a registry's own word for it. */
    Credentials: "credentials",
    /** 404, or a registry's own word for it. */
    Missing: "missing",
    /** It is there, and not for the platform that was asked for. */
    Platform: "platform",
    /** 5xx: the server, or a proxy before it, is not well. */
    Server: "server",
} as const;
export type Fault = (typeof Fault)[keyof typeof Fault];

export interface ConnectionFault {
    fault: Fault;
    /** Host (and port) that was asked; empty where the text does not say. */
    host: string;
    /** What is wrong, without the host and without a full stop. */
    wrong: string;
    /** The program's own words for it, in one line. */
    reason: string;
}

interface Kind {
    fault: Fault;
    wrong: string;
    /** Looked for in the text as it stands: whole phrases, which no name can hold. */
    phrases: RegExp;
}

/** In this order: a handshake that fails is also a connection that was closed, and a token that cannot be had is also no login. */
const kinds: Kind[] = [
    { fault: Fault.NoSpace, wrong: "no space is left on the disk", phrases: /no space left on device|\bENOSPC\b|disk quota exceeded/i },
    {
        fault: Fault.ClientCertificate,
        wrong: "it refuses the certificate that it is shown",
        phrases:
            /remote error: tls: (bad certificate|unknown certificate|certificate required|(expired|revoked|unsupported) certificate)|alert (unknown ca|(bad|unsupported) certificate|certificate (required|expired|unknown|revoked))/i,
    },
    {
        fault: Fault.Authority,
        wrong: "its certificate is signed by an authority that is not trusted",
        phrases:
            /signed by unknown authority|unable to (verify the first|get (local )?issuer) certificate|self[- ]signed certificate|unable to get local issuer|certificate verification failed: .*CAfile/i,
    },
    {
        fault: Fault.Expired,
        wrong: "its certificate is out of date, or a clock is wrong",
        phrases: /certificate (has expired|is not yet valid)|certificate has expired or is not yet valid|\bCERT_(HAS_EXPIRED|NOT_YET_VALID)\b/i,
    },
    {
        fault: Fault.WrongName,
        wrong: "its certificate is for another name",
        phrases:
            /certificate is (valid for|not valid for any names)|doesn't contain any (IP )?SANs|relies on legacy Common Name|does not match (the )?certificate|no alternative certificate subject name matches/i,
    },
    {
        fault: Fault.PlainText,
        wrong: "it does not speak TLS at this port",
        phrases: /server gave HTTP response to HTTPS client|wrong version number|first record does not look like a TLS handshake|packet length too long/i,
    },
    // A resolver that does not answer is named before the silence itself.
    {
        fault: Fault.NoName,
        wrong: "its name has no address",
        phrases:
            /no such host|\bENOTFOUND\b|\bEAI_(AGAIN|NONAME)\b|server misbehaving|\blookup \S+( on \S+)?: |Could not resolve host|name resolution|Name or service not known|Name resolution failed/i,
    },
    { fault: Fault.Refused, wrong: "nothing listens there", phrases: /connection refused|\bECONNREFUSED\b|Couldn't connect to server/i },
    { fault: Fault.NoRoute, wrong: "no route leads there", phrases: /no route to host|network is unreachable|\bE(HOST|NET)UNREACH\b/i },
    {
        fault: Fault.Timeout,
        wrong: "it did not answer in time",
        phrases: /i\/o timeout|handshake timeout|timed out|\bETIMEDOUT\b|deadline.exceeded|Client\.Timeout|CONNECT_TIMEOUT|due to timeout|Connect Timeout/i,
    },
    { fault: Fault.Tls, wrong: "the TLS handshake failed", phrases: /\bx509: |\btls: |SSL routines|\bEPROTO\b|handshake failure|SSL certificate problem/i },
    {
        fault: Fault.Closed,
        wrong: "it closed the connection",
        phrases: /connection reset|\bECONNRESET\b|socket hang up|broken pipe|\bEPIPE\b|unexpected EOF|: EOF\b|other side closed/i,
    },
    {
        fault: Fault.RateLimited,
        wrong: "it limits how much may be asked for",
        phrases: /\b429 Too Many Requests|\btoomanyrequests\b|TOOMANYREQUESTS|rate limit|too many requests/i,
    },
    {
        fault: Fault.Credentials,
        wrong: "it refuses the credentials",
        phrases:
            /\b401 Unauthorized|\b403 Forbidden|authorization failed|access denied|access to the resource is denied|no basic auth credentials|authentication (required|failed)|insufficient_scope|\bUNAUTHORIZED\b|\bDENIED\b|incorrect username or password|could not read (Username|Password)|(?<![\w./-])(unauthorized|denied): /,
    },
    {
        fault: Fault.Platform,
        wrong: "it has the image, and not for this platform",
        phrases: /no match for platform|no matching manifest for|does not match the specified platform/i,
    },
    {
        fault: Fault.Missing,
        wrong: "it has nothing of that name",
        phrases:
            /manifest unknown|name unknown|\b(MANIFEST|NAME|BLOB)_UNKNOWN\b|\b404 Not Found|: not found\b|not found: |repository does not exist|Repository not found/i,
    },
    {
        fault: Fault.Server,
        wrong: "it, or a proxy before it, is out of order",
        phrases: /\b5\d\d (Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)|upstream connect error|proxyconnect|\b407 Proxy/i,
    },
];

/** A status without its words, which some programs print. */
const byStatus: [RegExp, Fault][] = [
    [/^40[13]$/, Fault.Credentials],
    [/^404$/, Fault.Missing],
    [/^429$/, Fault.RateLimited],
    [/^5\d\d$/, Fault.Server],
];

/** The fault that a text tells of; undefined where it tells of none that is known. */
export function connectionFault(text: string): ConnectionFault | undefined {
    const kind = kinds.find(({ phrases }) => phrases.test(text)) ?? ofStatus(text);
    if (kind === undefined) {
        return undefined;
    }
    const status = kind.fault === Fault.Server ? /\b5\d\d [A-Z][\w -]*[a-z]/.exec(withoutNames(text))?.[0] : undefined;
    return { fault: kind.fault, host: askedHost(text), wrong: status === undefined ? kind.wrong : `it answers ${status}`, reason: innermost(text) };
}

function ofStatus(text: string): Kind | undefined {
    const status = /\b(?:status|returned error|HTTP)\b[^\d\n]{0,60}(\d{3})(?![\w.])/i.exec(withoutNames(text))?.[1];
    const fault = status === undefined ? undefined : byStatus.find(([pattern]) => pattern.test(status))?.[1];
    return kinds.find((kind) => kind.fault === fault);
}

/** Addresses and names of images hold any digits: a 403 in a digest is no status. */
function withoutNames(text: string): string {
    return text.replace(/\S*(:\/\/|@|sha256:)\S*/g, "…").replace(/\S+\/\S+/g, "…");
}

/** Errors put what was done before what went wrong, from the outside in, and with it names that are as long as a digest. */
function innermost(text: string): string {
    const flat = text.replace(/\s+/g, " ").trim();
    const from =
        /(tls: |x509: |dial tcp|lookup |unexpected status |fatal: ).*$/.exec(flat)?.[0] ?? /(\b\d{3} [A-Z][a-z]|failed to [a-z]+ ).*$/.exec(flat)?.[0] ?? flat;
    return from.length > 300 ? `${from.slice(0, 297)}...` : from;
}

/** The last address that the text names stands nearest to what went wrong. */
function askedHost(text: string): string {
    const urls = [...text.matchAll(/[a-z]+:\/\/(?:[^\s/@"]*@)?(\[[0-9a-f:.]+\](?::\d+)?|[^\s/"'?#\\]+)/gi)];
    const named = urls.at(-1)?.[1] ?? /\b(?:lookup|ENOTFOUND|EAI_AGAIN) ([^\s:]+)/.exec(text)?.[1];
    return (named ?? /\b(?:dial tcp|ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH) (\S+?:\d+)(?=[\s:,.]|$)/.exec(text)?.[1] ?? "").replace(/[:,.]+$/, "");
}
