/** The command `init`: creates a home folder with a key and settings. */
import { flag, repeated, requiredOption, text, usage } from '../commands/parameters.ts'
import { localCommand } from './local-command.ts'

const MAX_INSTITUTION = 100
const MAX_ADDRESS = 200
const MAX_ADDRESSES = 8

export const INIT = localCommand({
  name: 'init',
  usage: 'init --institution NAME (--passphrase-file FILE | --insecure)',
  parameters: {
    institution: requiredOption(
      'institution',
      'name under which this node applies for membership',
      text(MAX_INSTITUTION),
    ),
    listen: repeated(
      'listen',
      'multiaddr to listen on (default /ip4/0.0.0.0/tcp/4001)',
      MAX_ADDRESS,
      MAX_ADDRESSES,
    ),
    noMdns: flag('no-mdns', 'do not look for members on the local network'),
    insecure: flag('insecure', 'store the key unencrypted'),
  },
  async work({ home, output, passphrase }, { institution, listen, noMdns, insecure }) {
    const secret = await passphrase()
    if (secret === undefined && !insecure) {
      throw usage('give --passphrase-file to encrypt the key, or --insecure to store it unencrypted')
    }
    const { DEFAULT_LISTEN, initHome } = await import('../node/found.ts')
    const { peerId } = await initHome(
      home,
      { institution, listen: listen ?? DEFAULT_LISTEN, bootstrap: [], mdns: !noMdns },
      secret === undefined ? { inTheClear: true } : { passphrase: secret },
    )
    output.result({ peerId, home }, [`${institution} is ${peerId}`, `home: ${home}`])
  },
})
