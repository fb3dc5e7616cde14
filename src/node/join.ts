/**
 * Joins a consortium with an invitation: charter, public model, approval by a founder, rosters, in this order. The
 * rosters are written last, so an interrupted attempt leaves no membership behind; files that were fetched stay and
 * are not fetched again. Founding a consortium is in found.ts.
 */

import { checkPublicModel, installPublicModel } from '../checkpoint/public-model.ts'
import { type Charter, openCharter, type PublicModelRef } from '../consortium/charter.ts'
import { decodeInvite, type Invite } from '../consortium/invite.ts'
import { type JoinStatus, sealMembershipRequest } from '../consortium/membership-request.ts'
import { isMember, openRoster, type Roster, rosterFromCharter } from '../consortium/roster.ts'
import { Exchange } from '../exchange/exchange.ts'
import type { ExchangeHandlers } from '../exchange/handlers.ts'
import { loadIdentity } from '../identity/key-file.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { equalBytes } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { ExchangeError, InputError, VerificationError } from '../lib/errors.ts'
import { pause } from '../lib/pause.ts'
import { configToShape } from '../model/config.ts'
import { peerIdOf } from '../network/address.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue, rosterKey } from '../store/catalogue.ts'
import { homePaths, loadSettings, saveSettings } from '../store/home.ts'
import type { SetupInit } from './found.ts'

export type JoinEvent =
  | { readonly stage: 'charter'; readonly name: string }
  /** Chunks of the public model: fetched so far, and in total. */
  | { readonly stage: 'public-model'; readonly done: number; readonly total: number }
  | { readonly stage: 'waiting' }
  | { readonly stage: 'member' }

/** Time between two requests while a founder has not approved, ms. */
const APPROVAL_POLL_MS = 1_000

/**
 * Become a member: fetch and check the charter and the public model, ask for membership, and wait until a founder
 * approves.
 * @throws InputError `usage` for an invitation that cannot be used, `exists`; VerificationError `wrong-consortium`,
 * `wrong-public-model`, `not-a-member`; ExchangeError `unreachable`, `refused`, `aborted`.
 */
export async function joinConsortium(
  init: SetupInit,
  inviteText: string,
  signal: AbortSignal,
  onEvent: (event: JoinEvent) => void,
): Promise<Charter> {
  const paths = homePaths(init.home)
  const settings = await loadSettings(paths)
  const identity = await loadIdentity(paths.key, init.passphrase)
  const invite = decodeInvite(inviteText)
  if (invite.expiresAt < init.now()) {
    throw new InputError('usage', 'invitation: it has expired; ask for a new one')
  }
  const catalogue = await Catalogue.open(paths.root)
  try {
    if ((await catalogue.get('rosters', rosterKey(0))) !== undefined) {
      throw new InputError('exists', `${init.home} belongs to a consortium already`)
    }
    const blobs = await BlobStore.open(paths.root)
    const inviters = invite.addresses.flatMap((address) => peerIdOf(address) ?? [])
    const exchange = new Exchange(
      { blobs, handlers: guestHandlers(inviters) },
      {
        identity,
        consortium: invite.consortium,
        listen: [],
        bootstrap: [],
        mdns: false,
        clock: () => performance.now(),
        inviters,
      },
    )
    try {
      await exchange.start()
      const inviter = await connectAny(exchange, invite, signal)
      const guest = new Guest({ exchange, invite, inviter, signal, onEvent })
      const { envelope, charter } = await guest.fetchCharter()
      await guest.fetchPublicModel(charter.publicModel)
      await installPublicModel(charter.publicModel.files, paths.publicModel, ({ sha256 }) =>
        blobs.path(sha256),
      )
      await checkAsChartered(paths.publicModel, charter.publicModel, signal)
      const { consortium, token } = invite
      const { peerId } = identity
      const request = { consortium, institution: settings.institution, peerId, token, issuedAt: init.now() }
      await guest.awaitApproval(sealMembershipRequest(request, identity))
      const rosters = await guest.fetchRosters(charter, peerId)
      // Before the membership, because a member without these addresses finds nobody and cannot join again.
      const bootstrap = [...new Set([...settings.bootstrap, ...invite.addresses])]
      await saveSettings(paths, { ...settings, bootstrap })
      await catalogue.write([
        { table: 'rosters', key: rosterKey(0), value: envelope },
        ...rosters.map((value, i) => ({ table: 'rosters' as const, key: rosterKey(i + 2), value })),
      ])
      onEvent({ stage: 'member' })
      return charter
    } finally {
      await exchange.stop()
    }
  } finally {
    await catalogue.close()
  }
}

interface GuestInit {
  readonly exchange: Exchange
  readonly invite: Invite
  /** The connected member that the invitation names. */
  readonly inviter: PeerIdString
  readonly signal: AbortSignal
  readonly onEvent: (event: JoinEvent) => void
}

/** The requests of a peer that is not a member yet to the member that invited it. */
class Guest {
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
   * Ask for membership until a founder has approved. Once the application has arrived, the inviter may be out of reach
   * for any time. @throws ExchangeError `refused`, `aborted`; the error of the first request.
   */
  async awaitApproval(request: Uint8Array): Promise<void> {
    const { onEvent, signal } = this.#init
    let status = await this.#askMembership(request)
    if (status === 'pending') onEvent({ stage: 'waiting' })
    for (;;) {
      if (status === 'member') return
      if (status === 'refused') {
        throw new ExchangeError('refused', 'the invitation was used or has expired; ask for a new one')
      }
      await pause(APPROVAL_POLL_MS, signal)
      try {
        status = await this.#askMembership(request)
      } catch (error) {
        const isOutOfReach =
          error instanceof ExchangeError && (error.code === 'unreachable' || error.code === 'timeout')
        if (!isOutOfReach) throw error
      }
    }
  }

  #askMembership(request: Uint8Array): Promise<JoinStatus> {
    const { exchange, inviter, signal } = this.#init
    return exchange.requestMembership(inviter, request, signal)
  }

  /**
   * The rosters after the charter's, each checked against the one before it.
   * @throws VerificationError `not-a-member` if the last one does not list `self`.
   */
  async fetchRosters(charter: Charter, self: PeerIdString): Promise<Uint8Array[]> {
    const { exchange, invite, inviter, signal } = this.#init
    const [, ...envelopes] = await exchange.requestCharter(inviter, invite.token, signal)
    let roster: Roster = rosterFromCharter(charter, invite.consortium)
    for (const envelope of envelopes) roster = openRoster(envelope, roster)
    if (!isMember(roster, self)) {
      throw new VerificationError('not-a-member', `the roster that ${inviter} sent does not list this node`)
    }
    return envelopes
  }
}

/** @throws VerificationError `wrong-public-model` if tokenizer or shape differ from those of the charter. */
async function checkAsChartered(dir: string, chartered: PublicModelRef, signal: AbortSignal): Promise<void> {
  const { tokenizer, config } = await checkPublicModel(dir, { signal })
  const sameShape = equalBytes(
    encodeCanonical({ ...configToShape(config) }),
    encodeCanonical({ ...chartered.config }),
  )
  if (tokenizer.digest !== chartered.tokenizerDigest || !sameShape) {
    throw new VerificationError(
      'wrong-public-model',
      'the public model is not the one that the charter names',
    )
  }
}

/** A guest answers no requests and accepts no statements; it may dial the inviters only. */
function guestHandlers(inviters: readonly PeerIdString[]): ExchangeHandlers {
  return {
    isMember: (peer) => inviters.includes(peer),
    guestsOpen: () => false,
    charterFor: () => undefined,
    onMembershipRequest: async () => 'refused',
    wanted: () => ({ rosterVersion: 0, known: [] }),
    statementsSince: async function* () {},
    isAhead: () => false,
    onStatement: async () => undefined,
    onFork: async () => undefined,
    judgeHead: () => 'ignore',
    isBehind: () => false,
    onSynced: () => undefined,
    mayRead: () => false,
  }
}

/** Connect to the first address of the invitation that answers. @throws the failure of the last one. */
async function connectAny(exchange: Exchange, invite: Invite, signal: AbortSignal): Promise<PeerIdString> {
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
