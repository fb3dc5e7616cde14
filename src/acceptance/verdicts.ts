/**
 * Stores the verdicts of this node on disk: one for each package, and a limited number for envelopes that could not be
 * opened as a statement. Knows nothing about how a verdict is reached.
 */
import { type Digest, fromUtf8, utf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { Verdict } from './accept.ts'

export interface VerdictsInit {
  readonly catalogue: Catalogue
  /** Name of a publisher for people. */
  readonly institutionOf: (publisher: string) => string
  readonly onVerdict: (verdict: Verdict, institution: string) => void
}

/** Maximum number of verdicts on refused envelopes per run of the node, because anybody can send any number of them. */
const ENVELOPE_VERDICTS_KEPT = 256

/** Minimum number of characters of a package id that names a package. */
const SHORTEST_PREFIX = 8

export class Verdicts {
  readonly #init: VerdictsInit
  #envelopeVerdicts = 0

  constructor(init: VerdictsInit) {
    this.#init = init
  }

  async get(id: Digest): Promise<Verdict | undefined> {
    const stored = await this.#init.catalogue.get('verdicts', id)
    return stored === undefined ? undefined : (JSON.parse(fromUtf8(stored)) as Verdict)
  }

  async list(): Promise<Verdict[]> {
    const stored = await this.#init.catalogue.entries('verdicts')
    return stored.map(([, bytes]) => JSON.parse(fromUtf8(bytes)) as Verdict)
  }

  /** Replaces an earlier verdict on the same package. @throws InputError `disk-full`, `io`. */
  async put(verdict: Verdict): Promise<void> {
    await this.#init.catalogue.put('verdicts', verdict.id, utf8(JSON.stringify(verdict)))
    const { publisher } = verdict
    this.#init.onVerdict(verdict, publisher === undefined ? 'unknown' : this.#init.institutionOf(publisher))
  }

  /** Store the verdict on a refused envelope, unless it has one or too many were stored. */
  async putEnvelope(verdict: Verdict): Promise<void> {
    if (this.#envelopeVerdicts >= ENVELOPE_VERDICTS_KEPT || (await this.get(verdict.id)) !== undefined) return
    this.#envelopeVerdicts++
    await this.put(verdict)
  }

  /** Turn the verdict on an accepted package into a refusal. Other verdicts stay. */
  async overrule(
    id: Digest,
    why: { check: string; code: string; reason: string },
    at: number,
  ): Promise<void> {
    const verdict = await this.get(id)
    if (verdict?.outcome === 'accepted') await this.put({ ...verdict, at, outcome: 'refused', ...why })
  }

  /**
   * Verdicts with an outcome on the packages that match a name: an expert's name, an institution, or a prefix of a
   * package id.
   * @throws InputError `not-found`.
   */
  async find(name: string, outcome: Verdict['outcome']): Promise<Verdict[]> {
    const digest = name.startsWith('sha256:') ? name : `sha256:${name}`
    const found = (await this.list()).filter(
      (verdict) =>
        verdict.outcome === outcome &&
        (verdict.expert === name ||
          (digest.length >= 'sha256:'.length + SHORTEST_PREFIX && verdict.id.startsWith(digest)) ||
          (verdict.publisher !== undefined && this.#init.institutionOf(verdict.publisher) === name)),
    )
    if (found.length === 0) throw new InputError('not-found', `no ${outcome} package matches "${name}"`)
    return found
  }
}
