/**
 * Creates a home folder with a key and settings, changes the settings, and founds a consortium in one. Joining a consortium is in join.ts.
 * Knows nothing about networks.
 */

import { stat } from 'node:fs/promises'
import { checkFolder } from '../checkpoint/checkpoint-directory.ts'
import { replayName } from '../checkpoint/model-directory.ts'
import { checkPublicModel, installPublicModel, modelFiles, replayOf } from '../checkpoint/public-model.ts'
import { type Charter, publicModelDigest, sealCharter } from '../consortium/charter.ts'
import { institutionName } from '../consortium/member.ts'
import { MAJORITY_RULES, type Rules } from '../consortium/rules.ts'
import { readDocuments } from '../data/readers.ts'
import { openOrCreateInstitutionKey } from '../identity/institution-key.ts'
import { loadIdentity, type Protection, saveIdentity } from '../identity/key-file.ts'
import { createIdentity, type Identity } from '../identity/keys.ts'
import { InputError } from '../lib/errors.ts'
import { openFile } from '../lib/files.ts'
import type { PublicFile } from '../lib/model-shape.ts'
import { escapeUnprintable } from '../lib/printable.ts'
import { configToShape } from '../model/config.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue, rosterKey } from '../store/catalogue.ts'
import { claimHome, homePaths, loadSettings, type Settings, saveSettings } from '../store/home.ts'
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

export interface FoundingInit {
  /** A Hugging Face model folder, as it was published. */
  readonly modelDir: string
  /** Name of the consortium and of its public model. */
  readonly name: string
  /** Who decides about changes; default: more than half of all members about everything. */
  readonly rules?: Rules
  /** Path of the public text that owners train beside; default: `replay.jsonl` in `modelDir`. */
  readonly replay?: string
  readonly signal?: AbortSignal
  /** Called with the number of bytes checked or copied so far, and in total. */
  readonly onProgress?: (stage: 'checking' | 'copying', done: number, total: number) => void
}

/**
 * Found a consortium around a public model. Weights are read piece by piece; no tensor is held whole.
 * @returns the charter, which this node alone has signed.
 * @throws InputError `not-a-model`, `exists`, `not-found`, `not-a-file`; FormatError for damaged weights.
 */
export async function createConsortium(init: SetupInit, founding: FoundingInit): Promise<Charter> {
  const { modelDir, signal, onProgress } = founding
  const paths = homePaths(init.home)
  const settings = await loadSettings(paths)
  // An edited settings.json or a name that nobody may show would make a charter that no node opens.
  const institution = institutionName(settings.institution)
  const name = consortiumName(founding.name)
  const identity = await foundingKey(init)
  await checkFolder(modelDir)
  const replay = founding.replay ?? (await replayOf(modelDir))
  const replayFile = { role: 'replay' as const, name: replayName(replay), path: replay }
  await checkReplay(replay, signal)
  const model = await checkPublicModel(modelDir, {
    signal,
    onProgress: (done, total) => onProgress?.('checking', done, total),
  })
  const config = configToShape(model.config)
  const catalogue = await Catalogue.open(paths.root, 'flexmesh consortium create')
  try {
    if ((await catalogue.get('rosters', rosterKey(0))) !== undefined) {
      throw new InputError('exists', `${init.home} belongs to a consortium already`)
    }
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
      founders: [{ institution, peerId: identity.peerId, role: 'founder', joinedAt: now }],
      rules: founding.rules ?? MAJORITY_RULES,
      issuedAt: now,
    }
    await catalogue.put('rosters', rosterKey(0), sealCharter(charter, [identity]))
    return charter
  } finally {
    await catalogue.close()
  }
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
