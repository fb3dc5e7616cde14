/**
 * Creates a home folder with a key and settings, changes the settings, and founds a consortium in one. Joining a consortium is in join.ts.
 * Knows nothing about networks.
 */

import { stat } from 'node:fs/promises'
import { checkFolder } from '../checkpoint/checkpoint-directory.ts'
import { replayName } from '../checkpoint/model-directory.ts'
import { checkPublicModel, installPublicModel, modelFiles, replayOf } from '../checkpoint/public-model.ts'
import { type Charter, type PublicModelRef, publicModelDigest, sealCharter } from '../consortium/charter.ts'
import { keyDigest } from '../consortium/key-history.ts'
import { institutionName, type Member } from '../consortium/member.ts'
import { MAJORITY_RULES, type Rules } from '../consortium/rules.ts'
import { readDocuments } from '../data/readers.ts'
import { nextInstitutionKeyId, openOrCreateInstitutionKey } from '../identity/institution-key.ts'
import { loadIdentity, type Protection, saveIdentity } from '../identity/key-file.ts'
import { createIdentity, type Identity } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { openFile } from '../lib/files.ts'
import type { PublicFile } from '../lib/model-shape.ts'
import { escapeUnprintable } from '../lib/printable.ts'
import { configToShape } from '../model/config.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue } from '../store/catalogue.ts'
import { rosterKey } from '../store/catalogue-keys.ts'
import {
  claimHome,
  type HomePaths,
  homePaths,
  loadSettings,
  type Settings,
  saveSettings,
} from '../store/home.ts'
import { writeHomeVersion } from '../store/home-version.ts'
import { checkListenAddress } from './listen-address.ts'
import { institutionFileOf, saveInstitutionFile } from './node-key.ts'

/** Multiaddrs on which a new node listens unless told otherwise. */
export const DEFAULT_LISTEN = ['/ip4/0.0.0.0/tcp/4001']

/**
 * Create a home folder, a key in it and the settings. The key comes last, so that an attempt that failed can be
 * repeated.
 * @param outside where the institution key lies; default: the key of the home is the institution key
 * @returns the institution key
 * @throws InputError `exists`, `permissions`; `usage` for settings that no node could use or a short passphrase.
 */
export async function initHome(
  root: string,
  settings: Settings,
  protection: Protection,
  outside?: OutsideKey,
): Promise<Identity> {
  const paths = homePaths(root)
  for (const address of settings.listen) checkListenAddress(address)
  const institution = institutionName(settings.institution)
  await claimHome(paths)
  const identity = createIdentity()
  await writeHomeVersion(paths)
  await saveSettings(paths, { ...settings, institution })
  if (outside !== undefined) {
    const { key } = await openOrCreateInstitutionKey(outside.file, outside.protection)
    await saveInstitutionFile(paths, outside.file)
    await saveIdentity(paths.key, identity, protection)
    return key
  }
  await saveIdentity(paths.key, identity, protection)
  return identity
}

/** An institution key that lies outside of the home. */
export interface OutsideKey {
  /** Is created, with the key after it, if it does not exist. */
  readonly file: string
  readonly protection: Protection
}

/**
 * The key with which an institution founds or joins: the one outside of the home, or that of the home.
 * @throws as `loadIdentity`.
 */
export async function foundingKey({ home, passphrase, institutionPassphrase }: SetupInit): Promise<Identity> {
  const paths = homePaths(home)
  const file = await institutionFileOf(paths)
  if (file === undefined) return loadIdentity(paths.key, passphrase)
  return loadIdentity(file, institutionPassphrase ?? passphrase)
}

/** The commitment to the next institution key, with which an institution joins; empty if the home holds its key. */
export async function committedKey({ home }: SetupInit): Promise<{ next?: Digest }> {
  const file = await institutionFileOf(homePaths(home))
  const next = file === undefined ? undefined : await nextInstitutionKeyId(file)
  return next === undefined ? {} : { next: keyDigest(next) }
}

/** Choose other addresses to listen on, from the next start of the node on. @throws InputError `usage`, `no-home`. */
export async function changeListenAddresses(home: string, listen: readonly string[]): Promise<void> {
  const paths = homePaths(home)
  for (const address of listen) checkListenAddress(address)
  await saveSettings(paths, { ...(await loadSettings(paths)), listen })
}

/**
 * Choose which experts of other members are accepted from the next start of the node on.
 * @param epsilonMicro maximum epsilon that a manifest may state, in millionths; undefined asks for no guarantee.
 * @throws InputError `no-home`.
 */
export async function changeMaxEpsilon(home: string, epsilonMicro: number | undefined): Promise<void> {
  const paths = homePaths(home)
  const { maxEpsilonMicro: _, ...settings } = await loadSettings(paths)
  await saveSettings(paths, {
    ...settings,
    ...(epsilonMicro === undefined ? {} : { maxEpsilonMicro: epsilonMicro }),
  })
}

/** A home folder that `initHome` created. */
export interface SetupInit {
  readonly home: string
  readonly passphrase?: string
  /** Passphrase of an institution key that lies outside of the home; default: `passphrase`. */
  readonly institutionPassphrase?: string | undefined
  /** Unix seconds. */
  readonly now: () => number
}

/** Where a public model is read from. */
export interface ModelSource {
  /** A Hugging Face model folder, as it was published. */
  readonly modelDir: string
  /** Path of the public text that owners train beside; default: `replay.jsonl` in `modelDir`. */
  readonly replay?: string
  readonly signal?: AbortSignal
  /** Called with the number of bytes checked or copied so far, and in total. */
  readonly onProgress?: (stage: 'checking' | 'copying', done: number, total: number) => void
}

export interface FoundingInit extends ModelSource {
  /** Name of the consortium and of its public model. */
  readonly name: string
  /** Who decides about changes; default: more than half of all members about everything. */
  readonly rules?: Rules
  /** The other founders, who have to sign the charter too. */
  readonly others?: readonly Pick<Member, 'institution' | 'peerId'>[]
}

export interface Founded {
  readonly charter: Charter
  /** The key of this founder. */
  readonly identity: Identity
}

/**
 * Found a consortium around a public model. With other founders, the home belongs to no consortium until all of them have
 * signed: see co-found.ts.
 * @throws InputError `not-a-model`, `exists`, `not-found`, `not-a-file`, `usage`; FormatError for damaged weights.
 */
export async function createConsortium(init: SetupInit, founding: FoundingInit): Promise<Founded> {
  const paths = homePaths(init.home)
  const settings = await loadSettings(paths)
  // An edited settings.json or a name that nobody may show would make a charter that no node opens.
  const institution = institutionName(settings.institution)
  const name = consortiumName(founding.name)
  const identity = await foundingKey(init)
  const others = founding.others ?? []
  if (others.length > 0) await checkKeyInHome(init.home)
  const catalogue = await Catalogue.open(paths.root, 'flexmesh consortium create')
  try {
    if ((await catalogue.get('rosters', rosterKey(0))) !== undefined) {
      throw new InputError('exists', `${init.home} belongs to a consortium already`)
    }
    const publicModel = await storePublicModel(paths, founding, name)
    const now = init.now()
    const charter: Charter = {
      name,
      publicModel,
      founders: [{ institution, peerId: identity.peerId, ...(await committedKey(init)) }, ...others].map(
        (founder) => ({
          ...founder,
          role: 'founder' as const,
          joinedAt: now,
        }),
      ),
      rules: founding.rules ?? MAJORITY_RULES,
      issuedAt: now,
    }
    if (others.length === 0) await catalogue.put('rosters', rosterKey(0), sealCharter(charter, [identity]))
    return { charter, identity }
  } finally {
    await catalogue.close()
  }
}

/**
 * Members know a node key once somebody that they know has told them, and founders know nobody before the consortium runs.
 * @throws InputError `usage` for a home whose institution key lies outside of it.
 */
export async function checkKeyInHome(home: string): Promise<void> {
  const file = await institutionFileOf(homePaths(home))
  if (file === undefined) return
  throw new InputError(
    'usage',
    `the institution key lies in ${file}: who founds together with others keeps it in the home until the nodes run, and then moves it to a file with ${ownCommand('key', 'delegate', '--institution-key', 'FILE')}; run "flexmesh init" without --institution-key in a new home`,
  )
}

/**
 * Copy a public model into the home. Weights are read piece by piece; no tensor is held whole.
 * @param name name of the public model
 * @throws InputError `not-a-model`, `not-found`, `not-a-file`; FormatError for damaged weights.
 */
export async function storePublicModel(
  paths: HomePaths,
  { modelDir, replay: given, signal, onProgress }: ModelSource,
  name: string,
): Promise<PublicModelRef> {
  await checkFolder(modelDir)
  const replay = given ?? (await replayOf(modelDir))
  const replayFile = { role: 'replay' as const, name: replayName(replay), path: replay }
  await checkReplay(replay, signal)
  const model = await checkPublicModel(modelDir, {
    signal,
    onProgress: (done, total) => onProgress?.('checking', done, total),
  })
  const config = configToShape(model.config)
  const blobs = await BlobStore.open(paths.root)
  const files: PublicFile[] = []
  const sources = [...modelFiles(model), replayFile]
  const sizes = await Promise.all(sources.map(async ({ path }) => (await stat(path)).size))
  const total = sizes.reduce((sum, size) => sum + size, 0)
  let before = 0
  for (const [i, { role, name: file, path }] of sources.entries()) {
    const onCopied = (bytes: number): void => onProgress?.('copying', before + bytes, total)
    files.push({ role, name: file, ...(await blobs.putFile(path, signal, onCopied)) })
    before += sizes[i] as number
  }
  await installPublicModel(files, paths.publicModel, ({ sha256 }) => blobs.path(sha256), signal)
  return { name, digest: publicModelDigest(files), tokenizerDigest: model.tokenizer.digest, config, files }
}

const MAX_NAME = 100

/** @throws InputError `usage`. */
function consortiumName(given: string): string {
  const name = given.normalize('NFC').trim()
  if (name.length > 0 && name.length <= MAX_NAME && escapeUnprintable(name) === name) return name
  throw new InputError(
    'usage',
    `--name: expected 1 to ${MAX_NAME} printable characters, got ${JSON.stringify(given)}`,
  )
}

/** The text is in the charter for good, so that one that cannot be read is refused now. @throws as `readDocuments`. */
async function checkReplay(path: string, signal: AbortSignal | undefined): Promise<void> {
  const file = await openFile(path)
  await file.close()
  for await (const _ of readDocuments([path], signal === undefined ? {} : { signal }))
    signal?.throwIfAborted()
}
