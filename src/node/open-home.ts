/**
 * Opens what the home folder of a node holds: its key, its settings, the catalogue with the books of the consortium, and
 * the public model. Holds the lock of the home from then on. Does not know the parts that compute or the network.
 */

import { loadPublicModel, type PublicModel } from '../checkpoint/public-model.ts'
import { Membership } from '../consortium/membership.ts'
import { loadIdentity } from '../identity/key-file.ts'
import type { Identity } from '../identity/keys.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { StatementLog } from '../statements/statement-log.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue } from '../store/catalogue.ts'
import { rosterKey } from '../store/catalogue-keys.ts'
import { type HomePaths, homePaths, loadSettings, type Settings } from '../store/home.ts'
import { HomeMark } from '../store/home-mark.ts'
import { HOME_VERSION, upgradeHome } from '../store/home-version.ts'
import { CheckpointNotes } from '../transparency/checkpoint-notes.ts'
import { loadApplication } from './application.ts'
import type { NodeInit } from './init.ts'
import { checkNoPendingKey } from './node-key.ts'
import { repairPublicModel } from './public-model-damage.ts'

/** An open home folder. Whoever opened it closes the catalogue, which ends the lock. */
export interface OpenHome {
  readonly paths: HomePaths
  readonly identity: Identity
  readonly settings: Settings
  readonly publicModel: PublicModel
  readonly catalogue: Catalogue
  readonly blobs: BlobStore
  readonly membership: Membership
  readonly statements: StatementLog
  readonly notes: CheckpointNotes
  readonly mark: HomeMark
}

/** @throws InputError `no-home`, `home-in-use`, `not-a-member` if the home belongs to no consortium. */
export async function openHome(init: NodeInit): Promise<OpenHome> {
  const paths = homePaths(init.home)
  const settings = await loadSettings(paths)
  // Before the key: whoever finds the home in use should not be asked for a passphrase.
  const catalogue = await Catalogue.open(paths.root, init.command)
  try {
    return await openBooks(init, { paths, settings, catalogue })
  } catch (error) {
    await catalogue.close()
    throw error
  }
}

async function openBooks(
  init: NodeInit,
  folder: Pick<OpenHome, 'paths' | 'settings' | 'catalogue'>,
): Promise<OpenHome> {
  const { paths, catalogue } = folder
  const { now } = init
  const onEvent = init.onEvent ?? (() => undefined)
  const home = await loadIdentity(paths.key, init.passphrase)
  const version = await upgradeHome(paths)
  if (version < HOME_VERSION)
    init.log?.info(`the home folder was upgraded from version ${version} to ${HOME_VERSION}`)
  const charterEnvelope = await catalogue.get('rosters', rosterKey(0))
  if (charterEnvelope === undefined) throw await notAMember(init.home, paths)
  const booksOf = async (identity: Identity) => {
    const membership = await Membership.open({ identity, catalogue, charterEnvelope, now, onEvent })
    const statements = await StatementLog.open({ identity, catalogue, membership, now })
    return { identity, membership, statements }
  }
  let books = await booksOf(home)
  if (init.actAs === undefined) await checkNoPendingKey(paths, books.membership)
  else books = await booksOf(await init.actAs(books.membership, home))
  const { identity, membership } = books
  const blobs = await BlobStore.open(paths.root)
  await repairPublicModel(catalogue, blobs, paths.publicModel, membership.charter.publicModel.files)
  const publicModel = await loadPublicModel(paths.publicModel)
  const mark = await HomeMark.open(paths.root, catalogue)
  const notes = await CheckpointNotes.open(catalogue, membership)
  if (init.actAs === undefined) await notes.stateWitnessKey(identity, now())
  return { ...folder, ...books, blobs, publicModel, mark, notes }
}

async function notAMember(home: string, paths: HomePaths): Promise<InputError> {
  const applied = await loadApplication(paths)
  return new InputError(
    'not-a-member',
    applied === undefined
      ? `${home} belongs to no consortium; run ${ownCommand('consortium', 'create')} or ${ownCommand('join', 'INVITE')}`
      : `${home} has applied for membership in "${applied}", which a founder has not approved; run ${ownCommand('join', 'INVITE')} with the same invitation to go on waiting`,
  )
}
