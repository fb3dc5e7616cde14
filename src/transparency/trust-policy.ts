/**
 * Trust policies in the syntax of C2SP tlog-policy: which logs and witnesses are known, and whose cosignatures make a
 * checkpoint count. Verifies no signature.
 */
import { toHex } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { COSIGNATURE, decodeVerifierKey, ED25519, type VerifierKey } from './note.ts'

/** A witness, or a group of which at least `threshold` parts must have cosigned. */
type Quorum =
  | { readonly witness: VerifierKey }
  | { readonly threshold: number; readonly parts: readonly Quorum[] }

export interface TrustPolicy {
  readonly logs: readonly VerifierKey[]
  readonly witnesses: readonly VerifierKey[]
  /** Undefined if no cosignature is needed. */
  readonly quorum: Quorum | undefined
}

const NONE = 'none'
/** Tab, newline and printable octets; octets above 0x7f are opaque. */
const ALLOWED = /^[\t\n\x20-\x7e\u0080-\u{10ffff}]*$/u
const THRESHOLD = /^[1-9][0-9]{0,3}$/

/**
 * @param text decoded from UTF-8
 * @throws FormatError `too-large`; `bad-field` with the number of the line.
 */
export function decodeTrustPolicy(text: string): TrustPolicy {
  if (text.length > limit('trustPolicyBytes')) {
    throw new FormatError(
      'too-large',
      `trust policy: expected at most ${limit('trustPolicyBytes')} characters, got ${text.length}`,
    )
  }
  const reader = new PolicyReader()
  for (const [i, line] of text.split('\n').entries()) reader.line(line, i + 1)
  return reader.end()
}

class PolicyReader {
  readonly #logs: VerifierKey[] = []
  readonly #witnesses: VerifierKey[] = []
  readonly #named = new Map<string, Quorum>()
  /** Names that belong to a group already: a witness may contribute in one way only. */
  readonly #grouped = new Set<string>()
  #quorum: { readonly of: Quorum | undefined } | undefined
  #number = 0

  line(text: string, number: number): void {
    this.#number = number
    if (!ALLOWED.test(text)) this.#fail('no control character', 'one')
    const items = text.split(/[ \t]+/).filter((item) => item !== '')
    const [keyword, ...rest] = items
    if (keyword === undefined || keyword.startsWith('#')) return
    if (keyword === 'log') this.#log(rest)
    else if (keyword === 'witness') this.#witness(rest)
    else if (keyword === 'group') this.#group(rest)
    else if (keyword === 'quorum') this.#setQuorum(rest)
    else this.#fail('log, witness, group, quorum or a comment', keyword)
  }

  end(): TrustPolicy {
    if (this.#quorum === undefined) this.#fail('one line "quorum NAME"', 'no such line')
    return { logs: this.#logs, witnesses: this.#witnesses, quorum: this.#quorum.of }
  }

  #log([vkey = '', ...url]: readonly string[]): void {
    if (url.length > 1) this.#fail('log VKEY [URL]', 'more')
    this.#logs.push(this.#key(vkey, ED25519, this.#logs))
  }

  #witness([name = '', vkey = '', ...url]: readonly string[]): void {
    if (url.length > 1) this.#fail('witness NAME VKEY [URL]', 'more')
    const witness = this.#key(vkey, COSIGNATURE, this.#witnesses)
    this.#name(name, { witness })
    this.#witnesses.push(witness)
  }

  #key(vkey: string, type: number, known: readonly VerifierKey[]): VerifierKey {
    const key = decodeVerifierKey(vkey)
    if (key.type !== type) this.#fail(`a key of type ${type}`, `type ${key.type}`)
    const raw = toHex(key.publicKey)
    if (known.some(({ publicKey }) => toHex(publicKey) === raw)) this.#fail('no key twice', key.name)
    if (known.length >= limit('members')) this.#fail(`at most ${limit('members')} keys`, 'more')
    return key
  }

  #group([name = '', threshold = '', ...members]: readonly string[]): void {
    const parts = members.map((member) => {
      const part = this.#find(member)
      if (this.#grouped.has(member)) this.#fail('each name in one group, once', member)
      this.#grouped.add(member)
      return part
    })
    const count = parts.length
    const needed = threshold === 'all' ? count : threshold === 'any' ? 1 : Number(threshold)
    const isThreshold = threshold === 'all' || threshold === 'any' || THRESHOLD.test(threshold)
    if (!isThreshold || count === 0 || needed > count) {
      this.#fail(`all, any or a number from 1 to ${count}, and at least one member`, threshold)
    }
    this.#name(name, { threshold: needed, parts })
  }

  #setQuorum([name = '', ...more]: readonly string[]): void {
    if (this.#quorum !== undefined || more.length > 0) this.#fail('one line "quorum NAME"', 'more')
    this.#quorum = { of: name === NONE ? undefined : this.#find(name) }
  }

  #name(name: string, quorum: Quorum): void {
    if (name === '' || name === NONE || this.#named.has(name)) this.#fail('a new name', name)
    this.#named.set(name, quorum)
  }

  #find(name: string): Quorum {
    const found = this.#named.get(name)
    if (found === undefined) this.#fail('a name from a line above', name)
    return found
  }

  #fail(expected: string, got: string): never {
    throw new FormatError(
      'bad-field',
      `trust policy, line ${this.#number}: expected ${expected}, got "${got.slice(0, 80)}"`,
    )
  }
}

/** Whether the cosignatures of some witnesses are enough. @param cosigned whether a witness has cosigned */
export function isQuorate(
  quorum: TrustPolicy['quorum'],
  cosigned: (witness: VerifierKey) => boolean,
): boolean {
  if (quorum === undefined) return true
  if ('witness' in quorum) return cosigned(quorum.witness)
  return quorum.parts.filter((part) => isQuorate(part, cosigned)).length >= quorum.threshold
}
