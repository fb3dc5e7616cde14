/** The command `init`: creates a home folder with a key and settings. */
import { listenOption } from '../commands/common-parameters.ts'
import { flag, requiredOption, text, usage } from '../commands/parameters.ts'
import { localCommand } from './local-command.ts'

/** Longer than a name, because white space may be shortened. */
const MAX_TYPED = 200

export const INIT = localCommand({
  name: 'init',
  usage: 'init --institution NAME (--passphrase-file FILE | --insecure)',
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
  },
  async work({ home, output, passphrase }, { institution: given, listen, noMdns, insecure }) {
    const secret = await passphrase()
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
      secret === undefined ? { inTheClear: true } : { passphrase: secret },
    )
    output.result({ peerId, home }, [
      `${institution} is ${peerId}`,
      `home: ${home}`,
      'next: "flexmesh join INVITE" with an invitation, or "flexmesh consortium create" to found a consortium',
    ])
  },
})
