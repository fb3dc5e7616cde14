/** The command `passphrase`: encrypts the key of a home folder under another passphrase. */
import { flag, option, path, usage } from '../commands/parameters.ts'
import { homePaths, loadSettings } from '../store/home.ts'
import { localCommand } from './local-command.ts'
import { readPassphrase } from './passphrase.ts'

export const PASSPHRASE = localCommand({
  name: 'passphrase',
  usage: 'passphrase [--passphrase-file OLD] (--new-passphrase-file NEW | --insecure)',
  parameters: {
    newFile: option('new-passphrase-file', 'file with the new passphrase', path),
    insecure: flag('insecure', 'store the key unencrypted'),
  },
  async work({ home, output, passphrase, signal }, { newFile, insecure }) {
    if ((newFile === undefined) !== insecure) {
      throw usage(
        'give either --new-passphrase-file to encrypt the key, or --insecure to store it unencrypted',
      )
    }
    const { loadIdentity, replaceIdentity } = await import('../identity/key-file.ts')
    const paths = homePaths(home)
    await loadSettings(paths)
    const identity = await loadIdentity(paths.key, await passphrase())
    const secret = newFile === undefined ? undefined : await readPassphrase(newFile, signal)
    await replaceIdentity(
      paths.key,
      identity,
      secret === undefined ? { inTheClear: true } : { passphrase: secret },
    )
    output.result({ peerId: identity.peerId, encrypted: secret !== undefined }, [
      secret === undefined ? 'the key is stored unencrypted now' : 'the key has the new passphrase now',
      'copies of the old key file, such as backups, keep the old passphrase',
    ])
  },
})
