/**
 * The command `key sign`: signs a request of `key request` on the machine that has the institution key. Needs no home folder
 * and no network.
 */

import { option, path, positional } from '../commands/parameters.ts'
import { day } from '../commands/terminal.ts'
import { commandLine } from '../lib/command-line.ts'
import { INSTITUTION_PASSPHRASE } from './key.ts'
import { localCommand } from './local-command.ts'
import { optionalPassphrase, protectionOf } from './passphrase.ts'

export const KEY_SIGN = localCommand({
  name: 'key sign',
  usage: 'key sign FILE [--institution-key FILE]',
  parameters: {
    file: positional(path, 'name the file that "flexmesh key request" has written'),
    keyFile: option('institution-key', 'file of the institution key (default: only show the request)', path),
    institutionPassphraseFile: INSTITUTION_PASSPHRASE,
  },
  async work({ output, passphrase, signal }, { file, keyFile, institutionPassphraseFile }) {
    const [{ openKeysRequest, signKeysRequest }, { loadInstitutionKey }, files, { limit }] =
      await Promise.all([
        import('../consortium/keys-statement.ts'),
        import('../identity/institution-key.ts'),
        import('../lib/files.ts'),
        import('../lib/limits.ts'),
      ])
    const request = await files.readFileBounded(file, limit('envelopeBytes'))
    const { publisher, consortium, seq, key, node, validThroughSeq } = openKeysRequest(request)
    if (keyFile !== undefined) {
      const secret = (await optionalPassphrase(institutionPassphraseFile, signal)) ?? (await passphrase())
      const institution = await loadInstitutionKey(keyFile, protectionOf(secret), key)
      await files.writeFileAtomic(file, signKeysRequest(request, institution))
    }
    output.result(
      { file, seat: publisher, consortium, seq, institutionKey: key, node, isSigned: keyFile !== undefined },
      [
        `statement ${seq} of the seat ${publisher} in the consortium ${consortium}`,
        `names the node key ${node?.key} until ${day(node?.expiresAt ?? 0)}, for ${node?.scopes.join(', ')}`,
        ...(validThroughSeq === undefined
          ? []
          : [`statements ${validThroughSeq + 1} to ${seq - 1} do not count`]),
        keyFile === undefined
          ? 'this has signed nothing; --institution-key FILE signs'
          : `signed by the institution key ${key}; next, at the node: ${commandLine(['key', 'accept', file])}`,
      ],
    )
  },
})
