/**
 * Joins a consortium with an invitation: charter, public model, approval by a founder, rosters, in this order. The
 * rosters are written last, so an interrupted attempt leaves no membership behind; files that were fetched stay and
 * are not fetched again. Does not lock the home folder while it waits. Founding a consortium is in found.ts.
 */

import type { CheckOptions } from '../checkpoint/checkpoint-check.ts'
import { checkPublicModel, installPublicModel } from '../checkpoint/public-model.ts'
import type { Charter, PublicModelRef } from '../consortium/charter.ts'
import { decodeInvite } from '../consortium/invite.ts'
import { institutionName } from '../consortium/member.ts'
import { sealMembershipRequest } from '../consortium/membership-request.ts'
import { Exchange } from '../exchange/exchange.ts'
import type { ExchangeHandlers } from '../exchange/handlers.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { NO_STATEMENT } from '../identity/statement.ts'
import { equalBytes } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { ownCommand } from '../lib/command-line.ts'
import { eachPercent } from '../lib/each-percent.ts'
import { ExchangeError, InputError, VerificationError } from '../lib/errors.ts'
import { pause } from '../lib/pause.ts'
import { configToShape } from '../model/config.ts'
import { peerIdOf } from '../network/address.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue } from '../store/catalogue.ts'
import { governanceKey, rosterKey } from '../store/catalogue-keys.ts'
import { homePaths, loadSettings, saveSettings } from '../store/home.ts'
import { SILENT } from '../telemetry/log.ts'
import { STATUS } from '../transparency/witness-rules.ts'
import { removeApplication, saveApplication } from './application.ts'
import { openForeignEgress } from './egress.ts'
import { committedKey, foundingKey, type SetupInit } from './found.ts'
import { connectAny, Guest, type JoinEvent } from './guest.ts'

/** Time between two requests while the members have not approved, ms. */
const APPROVAL_POLL_MS = 1_000
/** Another command that uses the home folder ends within seconds, unless it is a node. */
const LOCK_ATTEMPTS = 40
const LOCK_POLL_MS = 250

export interface JoinInit extends SetupInit {
  /** Time between two requests while a founder has not approved, ms; default one second. */
  readonly pollMs?: number
}

/**
 * Become a member: fetch and check the charter and the public model, ask for membership, and wait until its members
 * approve.
 * @throws InputError `usage` for an invitation that cannot be used, `exists`; VerificationError `wrong-consortium`,
 * `wrong-public-model`, `not-a-member`; ExchangeError `unreachable`, `refused`, `aborted`.
 */
export async function joinConsortium(
  init: JoinInit,
  inviteText: string,
  signal: AbortSignal,
  onEvent: (event: JoinEvent) => void,
): Promise<Charter> {
  const paths = homePaths(init.home)
  const settings = await loadSettings(paths)
  const institution = institutionName(settings.institution)
  const identity = await foundingKey(init)
  const invite = decodeInvite(inviteText)
  if (invite.expiresAt < init.now()) {
    throw new InputError('usage', 'invitation: it has expired; ask for a new one')
  }
  await withCatalogue(paths.root, signal, (catalogue) => checkNoMembership(catalogue, init.home))
  const blobs = await BlobStore.open(paths.root)
  const inviters = invite.addresses.flatMap((address) => peerIdOf(address) ?? [])
  const egress = await openForeignEgress({ dir: paths.egress, now: init.now, log: SILENT })
  const exchange = new Exchange(
    { blobs, handlers: guestHandlers(inviters) },
    {
      identity,
      egress,
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
    const guest = new Guest({
      exchange,
      invite,
      inviter,
      signal,
      onEvent,
      pollMs: init.pollMs ?? APPROVAL_POLL_MS,
    })
    const { envelope, charter } = await guest.fetchCharter()
    await guest.fetchPublicModel(charter.publicModel)
    const { files } = charter.publicModel
    await installPublicModel(files, paths.publicModel, ({ sha256 }) => blobs.path(sha256), signal)
    const tell = eachPercent(onEvent, ({ stage }) => stage)
    await checkAsChartered(paths.publicModel, charter.publicModel, {
      signal,
      onProgress: (done, total) => tell({ stage: 'checking', done, total }),
    })
    const { consortium, token } = invite
    const { peerId } = identity
    const committed = await committedKey(init)
    const request = { consortium, institution, peerId, ...committed, token, issuedAt: init.now() }
    const wasMember = await guest.awaitApproval(sealMembershipRequest(request, identity), () =>
      saveApplication(paths, charter.name),
    )
    const { rosters, governance } = await guest.fetchRosters(charter, peerId, wasMember)
    await withCatalogue(paths.root, signal, async (catalogue) => {
      await checkNoMembership(catalogue, init.home)
      // Before the membership, because a member without these addresses finds nobody and cannot join again.
      const bootstrap = [...new Set([...settings.bootstrap, ...invite.addresses])]
      await saveSettings(paths, { ...settings, bootstrap })
      await catalogue.write([
        { table: 'rosters', key: rosterKey(0), value: envelope },
        ...rosters.map((value, i) => ({ table: 'rosters' as const, key: rosterKey(i + 2), value })),
        ...governance.map(({ id, envelope: value }) => ({
          table: 'governance' as const,
          key: governanceKey(id),
          value,
        })),
      ])
    })
    await removeApplication(paths)
    onEvent({ stage: 'member' })
    return charter
  } catch (error) {
    if (error instanceof ExchangeError && error.code === 'refused') await removeApplication(paths)
    throw error
  } finally {
    await exchange.stop()
    await egress.close()
  }
}

/** Use the catalogue of a home folder for a moment. Waits while another command uses it. */
async function withCatalogue<T>(
  root: string,
  signal: AbortSignal,
  use: (catalogue: Catalogue) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      const catalogue = await Catalogue.open(root, 'flexmesh join')
      try {
        return await use(catalogue)
      } finally {
        await catalogue.close()
      }
    } catch (error) {
      const isInUse = error instanceof InputError && error.code === 'home-in-use'
      if (!isInUse || attempt === LOCK_ATTEMPTS) throw error
      await pause(LOCK_POLL_MS, signal)
    }
  }
}

/** @throws InputError `exists` if the node belongs to a consortium. */
async function checkNoMembership(catalogue: Catalogue, home: string): Promise<void> {
  if ((await catalogue.get('rosters', rosterKey(0))) === undefined) return
  throw new InputError(
    'exists',
    `${home} belongs to a consortium already; to tell its node where another member is now, run ${ownCommand('connect', 'ADDRESS')}`,
  )
}

/** @throws VerificationError `wrong-public-model` if tokenizer or shape differ from those of the charter. */
async function checkAsChartered(
  dir: string,
  chartered: PublicModelRef,
  options: CheckOptions,
): Promise<void> {
  const { tokenizer, config } = await checkPublicModel(dir, options)
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
    isRevoked: () => false,
    rostersSince: () => [],
    charterFor: () => undefined,
    onMembershipRequest: async () => 'refused',
    wanted: () => ({ rosterVersion: 0, governance: NO_STATEMENT, known: [] }),
    statementsSince: async function* () {},
    isAhead: () => false,
    onStatement: async () => false,
    onFork: async () => false,
    judgeHead: () => 'ignore',
    isBehind: () => false,
    onPulled: () => undefined,
    onSynced: () => undefined,
    mayRead: () => false,
    onAddCheckpoint: async () => ({ status: STATUS.unknownLog, body: '' }),
    checkpointsSince: () => [],
    knownCheckpoints: () => [],
    onCheckpoint: async () => undefined,
  }
}
