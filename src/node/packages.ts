/**
 * What is known about every package, for people: its state, whoever owns that state, and what its manifest says. Reads
 * only; never waits for a fetch or a judgement.
 */
import type { OpenedManifest, Verdict } from '../acceptance/accept.ts'
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import type { PackageState } from '../acceptance/package-states.ts'
import { isNamed } from '../acceptance/verdicts.ts'
import type { Digest } from '../lib/bytes.ts'
import { ExchangeError } from '../lib/errors.ts'
import type { Manifest } from '../packaging/manifest.ts'
import type { AuditStatement } from '../packaging/manifest-audit.ts'
import type { PrivacyStatement } from '../packaging/manifest-privacy.ts'
import type { Parts } from '../pipeline/parts.ts'

/** State of a package in words that do not change. */
export type ReportedState =
  | PackageState['kind']
  /** Its publisher has as many packages in use as the policy allows. */
  | 'waiting-for-place'
  | 'accepted'
  | 'refused'
  | 'withdrawn'
  | 'superseded'
  | 'expired'
  | 'refused-by-operator'

export interface PackageReport {
  readonly id: Digest
  readonly state: ReportedState
  /** Facts about a state that has no verdict yet. */
  readonly progress?: PackageState
  /** Undefined before there is one. */
  readonly verdict?: Verdict
  /** Undefined if the publisher of a refused envelope is not known. */
  readonly institution?: string
  /** Whether this node published it. */
  readonly isOwn: boolean
  /** Undefined for an envelope that holds no manifest. */
  readonly expert?: string
  readonly domain?: string
  readonly license?: string
  /** What its publisher states about privacy; undefined for an older manifest, which does not state anything. */
  readonly privacy?: PrivacyStatement
  /** What its publisher states that attacks on it found; undefined without an audit. */
  readonly audit?: AuditStatement
  /** Present if the package is in use although fewer members than needed have cosigned its manifest. */
  readonly isFinal?: false
  /** Size of the file. */
  readonly bytes?: number
  /** End of the consent, Unix seconds. */
  readonly expiresAt?: number
}

/** All packages, those without a verdict first. */
export async function packageReports(parts: Parts): Promise<PackageReport[]> {
  const reports: PackageReport[] = []
  const pending = parts.states.list()
  for (const [id, progress] of pending) reports.push(await reportOf(parts, id, { progress }))
  const isPending = new Set(pending.map(([id]) => id))
  const verdicts = (await parts.verdicts.list()).filter(({ id }) => !isPending.has(id))
  const isJudged = new Set(verdicts.map(({ id }) => id))
  for (const id of parts.standing.waiting()) {
    if (!isJudged.has(id)) reports.push(await reportOf(parts, id, { state: 'waiting-for-place' }))
  }
  for (const verdict of verdicts) reports.push(await reportOf(parts, verdict.id, { verdict }))
  return reports
}

/** The logged packages that match a name and that nobody has withdrawn, whether this node uses them or not. */
export async function standingPackages(parts: Parts, name: string): Promise<OpenedManifest[]> {
  const found: OpenedManifest[] = []
  for await (const { envelope, digest: id } of parts.statements.all()) {
    const manifest = readLoggedManifest(envelope)
    if (manifest === undefined || parts.accepted.isWithdrawn(manifest.publisher, id)) continue
    const institution = parts.membership.institutionOf(manifest.publisher)
    if (isNamed(name, { id, expert: manifest.expert.name, institution })) found.push({ id, manifest })
  }
  return found
}

/** The reports of some packages. */
export async function packageReportsOf(parts: Parts, ids: readonly Digest[]): Promise<PackageReport[]> {
  const reports: PackageReport[] = []
  for (const id of ids) {
    const progress = parts.states.get(id)
    const verdict = progress === undefined ? await parts.verdicts.get(id) : undefined
    if (progress !== undefined) reports.push(await reportOf(parts, id, { progress }))
    else if (verdict !== undefined) reports.push(await reportOf(parts, id, { verdict }))
  }
  return reports
}

/**
 * Resolves when each of these packages has a verdict or waits for something that may take any time.
 * @param onChange called after each change of one of them
 * @throws ExchangeError `aborted`.
 */
export async function outcomesOf(
  parts: Parts,
  ids: readonly Digest[],
  signal: AbortSignal,
  onChange: (id: Digest, state: PackageState) => void,
): Promise<PackageReport[]> {
  const isRunning = (): boolean => ids.some((id) => isUnderWay(parts.states.get(id)))
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const stop = parts.states.onChange((id) => {
    const state = parts.states.get(id)
    if (ids.includes(id) && state !== undefined) onChange(id, state)
    if (!isRunning()) resolve()
  })
  const interrupt = (): void =>
    reject(new ExchangeError('aborted', 'interrupted; the package stays in the queue'))
  signal.addEventListener('abort', interrupt, { once: true })
  try {
    if (signal.aborted) interrupt()
    if (!isRunning()) resolve()
    await promise
    return await packageReportsOf(parts, ids)
  } finally {
    stop()
    signal.removeEventListener('abort', interrupt)
  }
}

function isUnderWay(state: PackageState | undefined): boolean {
  return state !== undefined && ['announced', 'fetching', 'fetched', 'judging'].includes(state.kind)
}

type Known =
  | { readonly progress: PackageState }
  | { readonly state: 'waiting-for-place' }
  | { readonly verdict: Verdict }

async function reportOf(parts: Parts, id: Digest, known: Known): Promise<PackageReport> {
  const envelope = await parts.statements.envelope(id)
  const manifest = envelope === undefined ? undefined : readLoggedManifest(envelope)
  const verdict = 'verdict' in known ? known.verdict : undefined
  const publisher = manifest?.publisher ?? verdict?.publisher
  const expert = manifest?.expert.name ?? verdict?.expert
  return {
    id,
    ...known,
    state: stateOf(parts, known),
    ...(publisher === undefined ? {} : { institution: parts.membership.institutionOf(publisher) }),
    isOwn: publisher === parts.membership.seat,
    ...(expert === undefined ? {} : { expert }),
    ...(manifest === undefined ? {} : factsOf(manifest)),
    ...(manifest === undefined || isFinal(parts, manifest) || verdict?.outcome !== 'accepted'
      ? {}
      : { isFinal: false }),
  }
}

function isFinal({ logs }: Parts, { publisher, seq }: Manifest): boolean {
  return logs.needed() === 0 || seq <= logs.finalSize(publisher)
}

function factsOf({ domain, license, privacy, audit, files: [{ size: bytes }], expiresAt }: Manifest) {
  return { domain, license, ...(privacy && { privacy }), ...(audit && { audit }), bytes, expiresAt }
}

function stateOf({ accepted }: Parts, known: Known): ReportedState {
  if ('progress' in known) return known.progress.kind
  if ('state' in known) return known.state
  const { verdict } = known
  if (verdict.outcome === 'accepted') return 'accepted'
  if (verdict.code === 'refused-by-operator') return 'refused-by-operator'
  const { publisher, id } = verdict
  const reason = publisher === undefined ? undefined : accepted.withdrawalReason(publisher, id)
  if (reason !== undefined) return reason === 'superseded' ? 'superseded' : 'withdrawn'
  return verdict.code === 'expired' ? 'expired' : 'refused'
}
