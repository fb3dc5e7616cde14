/**
 * Stores the verdicts of this node on disk: one for each package, and a limited number for envelopes that could not be
 * opened as a statement. Also counts judgements that never ended, because the process ended. Knows nothing about how a
 * verdict is reached.
 */
import { type Digest, fromUtf8, utf8 } from '../lib/bytes.ts'
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

  /**
   * A judgement begins. If the process ends before `endJudging`, the next start knows from this that the package may be
   * the cause. @throws InputError `disk-full`, `io`.
   */
  async beginJudging(id: Digest): Promise<void> {
    const count = (await this.unendedJudgings(id)) + 1
    await this.#init.catalogue.put('judgings', id, utf8(String(count)))
  }

  /** A judgement has ended, with a verdict or without. @throws InputError `disk-full`, `io`. */
  async endJudging(id: Digest): Promise<void> {
    await this.#init.catalogue.delete('judgings', id)
  }

  /** Number of judgements of a package that began and did not end. */
  async unendedJudgings(id: Digest): Promise<number> {
    const stored = await this.#init.catalogue.get('judgings', id)
    return stored === undefined ? 0 : Number(fromUtf8(stored))
  }

  /** Store the verdict on a refused envelope, unless it has one or too many were stored. */
  async putEnvelope(verdict: Verdict): Promise<void> {
    if (this.#envelopeVerdicts >= ENVELOPE_VERDICTS_KEPT || (await this.get(verdict.id)) !== undefined) return
    this.#envelopeVerdicts++
    await this.put(verdict)
  }

  /**
   * Turn the verdict on an accepted package into a refusal. Refusals stay.
   * @param unjudged facts about the package, if it is to be refused although it has no verdict
   */
  async overrule(
    id: Digest,
    why: { check: string; code: string; reason: string },
    at: number,
    unjudged?: { publisher: string; expert: string },
  ): Promise<void> {
    const verdict = await this.get(id)
    const before = verdict ?? (unjudged === undefined ? undefined : { id, ...unjudged, passed: [] })
    if (verdict?.outcome === 'refused' || before === undefined) return
    await this.put({ ...before, at, outcome: 'refused', ...why })
  }

  /**
   * Verdicts with an outcome on the packages that match a name: an expert's name, an institution, or a prefix of a
   * package id.
   */
  async find(name: string, outcome: Verdict['outcome']): Promise<Verdict[]> {
    return (await this.list()).filter(
      (verdict) =>
        verdict.outcome === outcome &&
        isNamed(name, {
          ...verdict,
          ...(verdict.publisher === undefined
            ? {}
            : { institution: this.#init.institutionOf(verdict.publisher) }),
        }),
    )
  }
}

/** Whether a person who writes `name` means this package: it is its expert, its owner or the beginning of its id. */
export function isNamed(
  name: string,
  { id, expert, institution }: { id: Digest; expert?: string; institution?: string },
): boolean {
  const digest = name.startsWith('sha256:') ? name : `sha256:${name}`
  const isPrefix = digest.length >= 'sha256:'.length + SHORTEST_PREFIX && id.startsWith(digest)
  return isPrefix || expert === name || institution === name
}
