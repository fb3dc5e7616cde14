/**
 * The requests of a node that is not a member yet to the member that invited it: charter, public model, membership,
 * rosters. Writes nothing but files of the public model. The order of these steps is in join.ts.
 */
import { type Charter, openCharter, type PublicModelRef } from '../consortium/charter.ts'
import { Governance, openGovernanceStatement } from '../consortium/governance.ts'
import type { Invite } from '../consortium/invite.ts'
import { openKeys } from '../consortium/keys-statement.ts'
import type { JoinStatus } from '../consortium/membership-request.ts'
import { isMember, openRoster, type Roster, rosterFromCharter } from '../consortium/roster.ts'
import { SeatKeys } from '../consortium/seat-keys.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { readEnvelope } from '../identity/envelope.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { ExchangeError, FormatError, VerificationError } from '../lib/errors.ts'
import { pause } from '../lib/pause.ts'
import { signerCheck } from '../statements/signers.ts'

export type JoinEvent =
  | { readonly stage: 'charter'; readonly name: string }
  /** Chunks of the public model: fetched so far, and in total. */
  | { readonly stage: 'public-model'; readonly done: number; readonly total: number }
  /** Bytes of its weights: checked so far, and in total. */
  | { readonly stage: 'checking'; readonly done: number; readonly total: number }
  /** The request has arrived. */
  | { readonly stage: 'waiting' }
  /** The inviting node does not answer any more; then it answers again. */
  | { readonly stage: 'away' | 'back' }
  | { readonly stage: 'member' }

interface GuestInit {
  readonly exchange: Exchange
  readonly invite: Invite
  /** The connected member that the invitation names. */
  readonly inviter: PeerIdString
  readonly signal: AbortSignal
  readonly onEvent: (event: JoinEvent) => void
  readonly pollMs: number
}

export class Guest {
  readonly #init: GuestInit

  constructor(init: GuestInit) {
    this.#init = init
  }

  /** @throws VerificationError `wrong-consortium` for a charter that is not the invitation's; ExchangeError. */
  async fetchCharter(): Promise<{ envelope: Uint8Array; charter: Charter }> {
    const { exchange, invite, inviter, signal, onEvent } = this.#init
    const [envelope] = await exchange.requestCharter(inviter, invite.token, signal)
    if (envelope === undefined) throw new ExchangeError('not-found', `${inviter} sent no charter`)
    const { charter, consortium } = openCharter(envelope)
    if (consortium !== invite.consortium) {
      throw new VerificationError(
        'wrong-consortium',
        `the invitation names ${invite.consortium}, ${inviter} sent ${consortium}`,
      )
    }
    onEvent({ stage: 'charter', name: charter.name })
    return { envelope, charter }
  }

  /** Bring every file of the public model into the blob store. @throws ExchangeError, VerificationError. */
  async fetchPublicModel({ files }: PublicModelRef): Promise<void> {
    const { exchange, inviter, signal, onEvent } = this.#init
    const chunks = files.map(({ size, chunkSize }) => Math.ceil(size / chunkSize))
    const total = chunks.reduce((sum, count) => sum + count, 0)
    let before = 0
    for (const [i, file] of files.entries()) {
      await exchange.fetch(file, {
        signal,
        providers: [inviter],
        onProgress: ({ doneChunks }) => onEvent({ stage: 'public-model', done: before + doneChunks, total }),
      })
      before += chunks[i] as number
    }
  }

  /**
   * Ask for membership until a founder has approved. Returns whether the inviter took the key for that of a member at
   * once: the institution may have rotated its key, so that the roster lists an older one. Once the request has arrived, the inviter may be out of reach for
   * any time.
   * @param onWaiting called once, when the request has arrived and is not approved yet.
   * @throws ExchangeError `refused`, `aborted`; the error of the first request.
   */
  async awaitApproval(request: Uint8Array, onWaiting: () => Promise<void>): Promise<boolean> {
    const { onEvent, signal, pollMs } = this.#init
    let status = await this.#askMembership(request)
    const wasMember = status === 'member'
    if (status === 'pending') {
      await onWaiting()
      onEvent({ stage: 'waiting' })
    }
    while (status === 'pending') {
      await pause(pollMs, signal)
      status = await this.#untilItAnswers(() => this.#askMembership(request))
    }
    if (status === 'refused') {
      throw new ExchangeError(
        'refused',
        'the invitation was used, has expired or was cancelled, or a founder rejected the request; ask for a new invitation',
      )
    }
    return wasMember
  }

  /** Repeat a request to the inviter as long as it is out of reach. */
  async #untilItAnswers<T>(ask: () => Promise<T>): Promise<T> {
    const { exchange, invite, onEvent, signal, pollMs } = this.#init
    for (let isAway = false; ; isAway = true) {
      try {
        if (isAway) await connectAny(exchange, invite, signal)
        const answer = await ask()
        if (isAway) onEvent({ stage: 'back' })
        return answer
      } catch (error) {
        if (!isOutOfReach(error)) throw error
        if (!isAway) onEvent({ stage: 'away' })
        await pause(pollMs, signal)
      }
    }
  }

  #askMembership(request: Uint8Array): Promise<JoinStatus> {
    const { exchange, inviter, signal } = this.#init
    return exchange.requestMembership(inviter, request, signal)
  }

  /**
   * The signed rosters after the charter's, each checked against the one before it, and the statements from which the
   * present roster follows.
   * @param wasMember as `awaitApproval` returns it
   * @throws VerificationError `not-a-member` if that roster does not list `self`, unless it was a member before.
   */
  async fetchRosters(charter: Charter, self: PeerIdString, wasMember: boolean): Promise<FetchedRosters> {
    const { exchange, invite, inviter, signal } = this.#init
    const [, ...envelopes] = await this.#untilItAnswers(() =>
      exchange.requestCharter(inviter, invite.token, signal),
    )
    let base: Roster = rosterFromCharter(charter, invite.consortium)
    const rosters: Uint8Array[] = []
    const governance = new Governance()
    const keys = new SeatKeys({ seats: () => [], now: () => 0 })
    const check = signerCheck(keys, () => Number.POSITIVE_INFINITY)
    const kept: { id: Digest; envelope: Uint8Array }[] = []
    for (const envelope of envelopes) {
      if (readEnvelope(envelope).payloadType === MEDIA_TYPES.roster) {
        base = openRoster(envelope, base)
        rosters.push(envelope)
        continue
      }
      if (readEnvelope(envelope).payloadType === MEDIA_TYPES.keys) {
        this.#recordKeys(keys, governance, envelope)
        continue
      }
      const statement = openGovernanceStatement(envelope, check)
      if (statement.value.consortium !== invite.consortium)
        throw new VerificationError('wrong-consortium', `${inviter} sent a statement of another consortium`)
      governance.add(statement, envelope)
      kept.push({ id: statement.id, envelope })
    }
    if (!wasMember && !isMember(governance.derive(base).roster, self)) {
      throw new VerificationError('not-a-member', `the roster that ${inviter} sent does not list this node`)
    }
    return { rosters, governance: kept }
  }

  /** Skips the keys of a seat that the members restored: the node verifies them with the whole log, once it syncs. */
  #recordKeys(keys: SeatKeys, governance: Governance, envelope: Uint8Array): void {
    try {
      const { value } = openKeys(envelope)
      keys.historyOf(value.publisher).checkChange(value)
      keys.record(value.publisher, value, envelope)
      governance.addKeys(value.publisher, value)
    } catch (error) {
      if (!(error instanceof VerificationError && error.code === 'wrong-signer')) throw error
    }
  }
}

/** Verified envelopes that show that a node is a member. */
interface FetchedRosters {
  readonly rosters: readonly Uint8Array[]
  readonly governance: readonly { readonly id: Digest; readonly envelope: Uint8Array }[]
}

/**
 * Whether a request may succeed later: the other node is not running, is starting or stopping, or has too much to do.
 */
function isOutOfReach(error: unknown): boolean {
  if (error instanceof FormatError) return error.code === 'truncated'
  if (!(error instanceof ExchangeError)) return false
  if (error.code !== 'refused') return error.code !== 'aborted'
  const { remote } = error.fields
  return typeof remote === 'string' && BUSY.includes(remote)
}

/** Codes of a refusal that another time may not meet: too many requests or too many guests. */
const BUSY: readonly string[] = ['quota', 'refused', 'timeout']

/** Connect to the first address of the invitation that answers. @throws the failure of the last one. */
export async function connectAny(
  exchange: Exchange,
  invite: Invite,
  signal: AbortSignal,
): Promise<PeerIdString> {
  let failure: unknown
  for (const address of invite.addresses) {
    try {
      return await exchange.connect(address, signal)
    } catch (error) {
      failure = error
    }
  }
  throw failure
}
