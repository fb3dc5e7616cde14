/**
 * Founds a consortium with other institutions: a charter travels as a file from founder to founder until all have signed
 * it. A home belongs to the consortium once its copy of the file has every signature. Knows nothing about networks.
 */
import type { Charter } from '../consortium/charter.ts'
import { CharterDraft } from '../consortium/charter-draft.ts'
import type { Identity } from '../identity/keys.ts'
import { InputError } from '../lib/errors.ts'
import { readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { Catalogue } from '../store/catalogue.ts'
import { rosterKey } from '../store/catalogue-keys.ts'
import { homePaths, loadSettings } from '../store/home.ts'
import { checkKeyInHome, foundingKey, type ModelSource, type SetupInit, storePublicModel } from './found.ts'

export interface SigningInit extends Omit<ModelSource, 'modelDir'> {
  /** The charter with the signatures so far; gets that of this institution. */
  readonly file: string
  /** Folder of the public model. Undefined only reads the file and changes nothing. */
  readonly modelDir?: string
}

export interface SigningReport {
  readonly charter: Charter
  readonly consortium: string
  /** Names of the founders that have not signed. */
  readonly missing: readonly string[]
  /** Whether the home belongs to the consortium now. */
  readonly isFounded: boolean
}

/** Write a charter that one founder has signed. @throws InputError `permissions`, `disk-full`. */
export async function writeDraft(file: string, charter: Charter, founder: Identity): Promise<void> {
  await writeFileAtomic(file, CharterDraft.begin(charter, founder).envelope())
}

/**
 * Sign the charter in a file, unless this institution has signed it already, and found this home with it once all founders
 * have signed.
 * @throws InputError `mismatch` if the charter does not name this institution with its key, or names another public model
 * than that of the folder; `exists` if the home belongs to another consortium; FormatError, VerificationError for a file
 * that is no charter or was changed after a founder has signed it. As `checkKeyInHome`.
 */
export async function signCharterFile(init: SetupInit, signing: SigningInit): Promise<SigningReport> {
  const { file, modelDir } = signing
  const paths = homePaths(init.home)
  const { institution } = await loadSettings(paths)
  const draft = CharterDraft.open(await readFileBounded(file, limit('envelopeBytes')))
  const { charter, consortium } = draft
  if (modelDir === undefined) return { charter, consortium, missing: draft.missing(), isFounded: false }
  await checkKeyInHome(init.home)
  const identity = await foundingKey(init)
  const own = charter.founders.find(({ peerId }) => peerId === identity.peerId)
  if (own?.institution !== institution) {
    throw new InputError(
      'mismatch',
      `${file}: expected a founder ${institution} with the key ${identity.peerId}, got ${charter.founders.map((one) => `${one.institution} ${one.peerId}`).join(', ')}; whoever wrote the charter repeats "flexmesh consortium create" with what "flexmesh init" has printed`,
    )
  }
  const catalogue = await Catalogue.open(paths.root, 'flexmesh consortium sign')
  try {
    const held = await catalogue.get('rosters', rosterKey(0))
    if (held !== undefined && CharterDraft.open(held).consortium !== consortium) {
      throw new InputError('exists', `${init.home} belongs to another consortium already`)
    }
    const stored = await storePublicModel(paths, { ...signing, modelDir }, charter.publicModel.name)
    if (stored.digest !== charter.publicModel.digest) {
      throw new InputError(
        'mismatch',
        `${modelDir}: its files are not those of the public model in ${file}; copy the folder from the founder that wrote the charter, with its replay text`,
      )
    }
    const signed = draft.signedBy(identity)
    if (signed !== draft) await writeFileAtomic(file, signed.envelope())
    const missing = signed.missing()
    if (missing.length === 0) await catalogue.put('rosters', rosterKey(0), signed.envelope())
    return { charter, consortium, missing, isFounded: missing.length === 0 }
  } finally {
    await catalogue.close()
  }
}
