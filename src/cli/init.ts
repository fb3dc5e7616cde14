/** The command `init`: creates a home folder with a key and settings. */

import { listenOption } from '../commands/common-parameters.ts'
import { flag, option, path, requiredOption, text, usage } from '../commands/parameters.ts'
import { ownCommand } from '../lib/command-line.ts'
import { INSTITUTION_PASSPHRASE } from './key.ts'
import { localCommand } from './local-command.ts'
import { protectionOf, readPassphrase } from './passphrase.ts'

/** Longer than a name, because white space may be shortened. */
const MAX_TYPED = 200

export const INIT = localCommand({
  name: 'init',
  usage: 'init --institution NAME (--passphrase-file FILE | --insecure) [--institution-key FILE]',
  parameters: {
    institution: requiredOption(
      'institution',
      'name under which this node applies for membership',
      text(MAX_TYPED),
    ),
    listen: listenOption(
      'address to listen on, several times for several (default /ip4/0.0.0.0/tcp/4001: port 4001 of every interface)',
    ),
    noMdns: flag('no-mdns', 'do not look for members on the local network'),
    insecure: flag('insecure', 'store the key unencrypted'),
    file: option(
      'institution-key',
      'keep the institution key in this file, for example on a stick, and only a node key in the home (default: one key in the home for both); the file and FILE.next are created if they do not exist',
      path,
    ),
    institutionPassphraseFile: INSTITUTION_PASSPHRASE,
  },
  async work(
    { home, output, passphrase, signal },
    { institution: given, listen, noMdns, insecure, file, institutionPassphraseFile },
  ) {
    const secret = await passphrase()
    const outsideSecret =
      institutionPassphraseFile === undefined
        ? secret
        : await readPassphrase(institutionPassphraseFile, signal)
    if (secret === undefined && !insecure) {
      throw usage('give --passphrase-file to encrypt the key, or --insecure to store it unencrypted')
    }
    const [{ DEFAULT_LISTEN, initHome }, { institutionName }] = await Promise.all([
      import('../node/found.ts'),
      import('../consortium/member.ts'),
    ])
    const institution = institutionName(given)
    const { peerId } = await initHome(
      home,
      { institution, listen: listen ?? DEFAULT_LISTEN, bootstrap: [], mdns: !noMdns },
      protectionOf(secret),
      file === undefined ? undefined : { file, protection: protectionOf(outsideSecret) },
    )
    output.result({ peerId, home, institutionKeyFile: file ?? null }, [
      `${institution} is ${peerId}`,
      `home: ${home}`,
      ...(file === undefined
        ? []
        : [
            `the institution key is in ${file}, the next one in ${file}.next; "join" and "consortium create" need them once`,
          ]),
      `next: ${ownCommand('join', 'INVITE')} with an invitation, or ${ownCommand('consortium', 'create')} to found a consortium`,
    ])
  },
})
