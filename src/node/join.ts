/** How a home folder comes to be: a key, then a consortium founded or joined. */

import { replayName } from '../checkpoint/model-directory.ts'
import { checkPublicModel, installPublicModel, modelFiles, replayOf } from '../checkpoint/public-model.ts'
import { type Charter, encodeCharter, openCharter, publicModelDigest } from '../consortium/charter.ts'
import { decodeInvite, type Invite } from '../consortium/invite.ts'
import { sealMembershipRequest } from '../consortium/membership-request.ts'
import { isMember, openRoster, type Roster, rosterFromCharter } from '../consortium/roster.ts'
import { Exchange } from '../exchange/exchange.ts'
import { seal } from '../identity/envelope.ts'
import { loadIdentity, type Protection, saveIdentity } from '../identity/key-file.ts'
import { createIdentity, type Identity } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { equalBytes } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { ExchangeError, InputError, VerificationError } from '../lib/errors.ts'
import { ensurePrivateDir, pathExists } from '../lib/files.ts'
import type { PublicFile } from '../lib/model-shape.ts'
import { configToShape } from '../model/config.ts'
import { peerIdOf } from '../network/address.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue, rosterKey } from '../store/catalogue.ts'
import { homePaths, loadSettings, type Settings, saveSettings } from '../store/home.ts'

export const DEFAULT_LISTEN = ['/ip4/0.0.0.0/tcp/4001']

/** Create key and settings. @throws InputError `exists`. */
export async function initHome(root: string, settings: Settings, protection: Protection): Promise<Identity> {
  const paths = homePaths(root)
  await ensurePrivateDir(root)
  if (await pathExists(paths.key)) throw new InputError('exists', `${root} holds a node already`)
  const identity = createIdentity()
  await saveIdentity(paths.key, identity, protection)
  await saveSettings(paths, settings)
  return identity
}

export interface SetupInit {
  readonly home: string
  readonly passphrase?: string
  /** Unix seconds. */
  readonly now: () => number
}

export interface FoundingInit {
  readonly modelDir: string
  readonly name: string
  /** Public text that owners train beside; `replay.jsonl` in the folder otherwise. */
  readonly replay?: string
  readonly signal?: AbortSignal
  /** Bytes of weights checked so far, and in all. */
  readonly onProgress?: (done: number, total: number) => void
}

/**
 * Found a consortium around a public model, a Hugging Face folder as it was published. No tensor is held
 * whole. @throws InputError `not-a-model`, `exists`, `usage`; FormatError for damaged weights.
 */
export async function createConsortium(init: SetupInit, founding: FoundingInit): Promise<Charter> {
  const { modelDir, name, signal, onProgress } = founding
  const paths = homePaths(init.home)
  const settings = await loadSettings(paths)
  const identity = await loadIdentity(paths.key, init.passphrase)
  const replay = founding.replay ?? (await replayOf(modelDir))
  const replayFile = { role: 'replay' as const, name: replayName(replay), path: replay }
  if (!(await pathExists(replay))) throw new InputError('not-found', `--replay: ${replay} does not exist`)
  const model = await checkPublicModel(modelDir, { signal, onProgress })
  const config = configToShape(model.config)
  const catalogue = await Catalogue.open(paths.root)
  try {
    if ((await catalogue.get('rosters', rosterKey(0))) !== undefined) {
      throw new InputError('exists', `${init.home} belongs to a consortium already`)
    }
    const blobs = await BlobStore.open(paths.root)
    const files: PublicFile[] = []
    for (const { role, name: file, path } of [...modelFiles(model), replayFile]) {
      files.push({ role, name: file, ...(await blobs.putFile(path, signal)) })
    }
    await installPublicModel(files, paths.publicModel, ({ sha256 }) => blobs.path(sha256))
    const now = init.now()
    const charter: Charter = {
      name,
      publicModel: {
        name,
        digest: publicModelDigest(files),
        tokenizerDigest: model.tokenizer.digest,
        config,
        files,
      },
      founders: [
        { institution: settings.institution, peerId: identity.peerId, role: 'founder', joinedAt: now },
      ],
      threshold: 1,
      issuedAt: now,
    }
    await catalogue.put(
      'rosters',
      rosterKey(0),
      seal(MEDIA_TYPES.charter, encodeCharter(charter), [identity]),
    )
    return charter
  } finally {
    await catalogue.close()
  }
}

export type JoinEvent =
  | { readonly stage: 'charter'; readonly name: string }
  | { readonly stage: 'public-model'; readonly done: number; readonly total: number }
  | { readonly stage: 'waiting' }
  | { readonly stage: 'member' }

/** Pause between two questions whether the founder has approved, ms. */
const APPROVAL_POLL_MS = 1_000

/**
 * Fetch and check the charter and public model, ask for membership, wait until a founder approves.
 * @throws InputError `usage`; VerificationError `wrong-consortium`; ExchangeError `unreachable`.
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
  if (invite.expiresAt < init.now())
    throw new InputError('usage', 'invitation: it has expired; ask for a new one')
  const inviters = invite.addresses.flatMap((address) => peerIdOf(address) ?? [])
  const catalogue = await Catalogue.open(paths.root)
  const blobs = await BlobStore.open(paths.root)
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
    if ((await catalogue.get('rosters', rosterKey(0))) !== undefined) {
      throw new InputError('exists', `${init.home} belongs to a consortium already`)
    }
    await exchange.start()
    const peer = await connectAny(exchange, invite, signal)
    const [charterEnvelope] = await exchange.requestCharter(peer, invite.token, signal)
    if (charterEnvelope === undefined) throw new ExchangeError('not-found', `${peer} sent no charter`)
    const { charter, consortium } = openCharter(charterEnvelope)
    if (consortium !== invite.consortium) {
      throw new VerificationError(
        'wrong-consortium',
        `the invitation names ${invite.consortium}, ${peer} sent ${consortium}`,
      )
    }
    onEvent({ stage: 'charter', name: charter.name })
    const total = charter.publicModel.files.reduce(
      (sum, file) => sum + Math.ceil(file.size / file.chunkSize),
      0,
    )
    let before = 0
    for (const file of charter.publicModel.files) {
      await exchange.fetch(file, {
        signal,
        providers: [peer],
        onProgress: ({ doneChunks }) => onEvent({ stage: 'public-model', done: before + doneChunks, total }),
      })
      before += Math.ceil(file.size / file.chunkSize)
    }
    await installPublicModel(charter.publicModel.files, paths.publicModel, (file) => blobs.path(file.sha256))
    const { tokenizer, config } = await checkPublicModel(paths.publicModel, { signal })
    const sameShape = equalBytes(
      encodeCanonical({ ...configToShape(config) }),
      encodeCanonical({ ...charter.publicModel.config }),
    )
    if (tokenizer.digest !== charter.publicModel.tokenizerDigest || !sameShape) {
      throw new VerificationError(
        'wrong-public-model',
        'the public model is not the one that the charter names',
      )
    }
    const rosters = await awaitApproval(
      exchange,
      identity,
      init,
      invite,
      peer,
      settings.institution,
      charter,
      signal,
      onEvent,
    )
    await catalogue.write([
      { table: 'rosters', key: rosterKey(0), value: charterEnvelope },
      ...rosters.map((value, i) => ({ table: 'rosters' as const, key: rosterKey(i + 2), value })),
    ])
    await saveSettings(paths, {
      ...settings,
      bootstrap: [...new Set([...settings.bootstrap, ...invite.addresses])],
    })
    onEvent({ stage: 'member' })
    return charter
  } finally {
    await exchange.stop()
    await catalogue.close()
  }
}

async function awaitApproval(
  exchange: Exchange,
  identity: Identity,
  init: SetupInit,
  invite: Invite,
  peer: string,
  institution: string,
  charter: Charter,
  signal: AbortSignal,
  onEvent: (event: JoinEvent) => void,
): Promise<Uint8Array[]> {
  const request = sealMembershipRequest(
    {
      consortium: invite.consortium,
      institution,
      peerId: identity.peerId,
      token: invite.token,
      issuedAt: init.now(),
    },
    identity,
  )
  let told = false
  for (;;) {
    const status = await exchange.requestMembership(peer, request, signal)
    if (status === 'refused')
      throw new ExchangeError('refused', 'the invitation was used or has expired; ask for a new one')
    if (status === 'member') break
    if (!told) onEvent({ stage: 'waiting' })
    told = true
    await pause(APPROVAL_POLL_MS, signal)
  }
  const [, ...rosters] = await exchange.requestCharter(peer, invite.token, signal)
  let roster: Roster = rosterFromCharter(charter, invite.consortium)
  for (const envelope of rosters) roster = openRoster(envelope, roster)
  if (!isMember(roster, identity.peerId))
    throw new VerificationError('not-a-member', 'the roster that came does not list us')
  return rosters
}

function guestHandlers(inviters: readonly string[]): ConstructorParameters<typeof Exchange>[0]['handlers'] {
  return {
    isMember: (peer) => inviters.includes(peer),
    guestsOpen: () => false,
    charterFor: () => undefined,
    onMembershipRequest: async () => 'refused',
    wanted: () => ({ rosterVersion: 0, known: [] }),
    statementsSince: async function* () {},
    onStatement: async () => undefined,
    judgeHead: () => 'ignore',
    isBehind: () => false,
    onSynced: () => undefined,
    mayRead: () => false,
  }
}

async function connectAny(exchange: Exchange, invite: Invite, signal: AbortSignal): Promise<string> {
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

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer)
        reject(new ExchangeError('aborted', 'interrupted'))
      },
      { once: true },
    )
  })
}
