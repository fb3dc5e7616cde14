/**
 * The keys of the catalogue: a prefix for each table, then the key of the value. Keys sort as their values are read. Does
 * not know the database.
 */
import type { Digest } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'

/** Prefixes of the keys of single values. Statements and logs have methods of their own. */
const TABLES = {
  /** Envelopes of the charter and of each roster, by `rosterKey(version)`. */
  rosters: 'r',
  /** Envelope of the latest head, by publisher. */
  heads: 'h',
  /** Verdict, by manifest digest. */
  verdicts: 'v',
  /** Number of judgements of a package that began and did not end, by manifest digest. */
  judgings: 'j',
  /** Second at which a statement was logged, by its digest. */
  arrivals: 'a',
  /** Sketch of the weights of a judged package, by the digest of its file. */
  sketches: 'k',
  /** What this node did about a withdrawal that it has not answered yet, by the digest of the withdrawal. */
  withdrawing: 'w',
  /** Models that this node exported, by a random key. */
  exports: 'x',
  /** Second at which a member was connected last, by peer id. */
  seen: 'o',
  settings: 's',
  /** Envelope of each statement about keys, by `placeKey(seat, seq)`. */
  keys: 'y',
  /** Open invitations, by token. */
  invites: 'i',
  /** Membership requests, by peer id. */
  requests: 'q',
  /** Envelope of each statement about the consortium, by the hexadecimal digits of its id. */
  governance: 'g',
  /** Proof that a publisher made two statements with one number: an envelope, by digest. */
  forks: 'f',
  /** Hashes of the Merkle trees of logs, and the size of each tree. */
  tiles: 't',
  /** Checkpoints of logs with their cosignatures, by publisher and state. */
  checkpoints: 'c',
  /** Size and root of the checkpoint of each log that this node cosigned last. */
  witnessed: 'b',
  /** Statement of each member about its witness key. */
  witnessKeys: 'z',
} as const
export type TableName = keyof typeof TABLES

const SEQ_DIGITS = 16
/** `!` separates keys from prefixes: it sorts below every character that a key may hold. */
const KEY = /^[\x22-\x7e]{1,128}$/

/** Key of a roster; keys sort by version. */
export function rosterKey(version: number): string {
  return padded(version)
}

/** Key of a statement about the consortium. */
export function governanceKey(id: Digest): string {
  return id.slice('sha256:'.length)
}

/** Key of a place in a log; the keys of one publisher sort by number. */
export function placeKey(publisher: string, seq: number): string {
  return `${publisher}.${padded(seq)}`
}

/** Key of a single value. @throws FormatError `bad-field`. */
export function keyOf(table: TableName, key: string): string {
  return `${tablePrefix(table)}${checkKey(key)}`
}

/** The beginning of all keys of a table. */
export function tablePrefix(table: TableName): string {
  return `${TABLES[table]}!`
}

/** Key of the envelope of a statement. */
export function statementKey(digest: Digest): string {
  return `d!${digest.slice('sha256:'.length)}`
}

/** Key of the digest of a statement, by its place; the keys of one log sort by number. @throws FormatError `bad-field`. */
export function logKey(publisher: string, seq: number): string {
  return `l!${checkKey(publisher)}!${padded(seq)}`
}

/** Key of the end of a log. @throws FormatError `bad-field`. */
export function tipKey(publisher: string): string {
  return `n!${checkKey(publisher)}`
}

function padded(value: number): string {
  return String(value).padStart(SEQ_DIGITS, '0')
}

/** Range of all keys with a prefix. */
export function rangeOf(prefix: string): { gte: string; lt: string } {
  return { gte: prefix, lt: `${prefix}\x7f` }
}

function checkKey(key: string): string {
  if (!KEY.test(key)) throw new FormatError('bad-field', `key: expected 1 to 128 printable characters`)
  return key
}

/** Number of a statement, from its `logKey`. */
export function seqOf(key: string): number {
  return Number(key.slice(-SEQ_DIGITS))
}

/** Range of all keys in the log of a publisher. */
export function logRange(publisher: string): { gte: string; lt: string } {
  return rangeOf(`l!${checkKey(publisher)}!`)
}
