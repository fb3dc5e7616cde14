/** The command `dashboard`: prints a link that opens the dashboard of the running node once. */

import { flag } from '../commands/parameters.ts'
import { ownCommand } from '../lib/command-line.ts'
import { ExchangeError, InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { callControl } from '../serving/control-client.ts'
import { homePaths } from '../store/home.ts'
import { localCommand } from './local-command.ts'

/** Name of the request at the control socket of the node. */
export const DASHBOARD_LINK = 'dashboard-link'

export const DASHBOARD = localCommand({
  name: 'dashboard',
  usage: 'dashboard [--read-only]',
  parameters: {
    readOnly: flag('read-only', 'a link with which one may look at everything and change nothing'),
  },
  async work({ home, output, signal }, { readOnly }) {
    const { link } = (await callControl(
      homePaths(home).control,
      DASHBOARD_LINK,
      { role: readOnly ? 'reader' : 'operator' },
      { signal },
    ).catch((error: unknown) => {
      if (!(error instanceof ExchangeError) || error.code !== 'unreachable') throw error
      throw new InputError(
        'not-found',
        `the node is not running; start it with ${ownCommand('start')}, then run this command again`,
        {},
        error,
      )
    })) as { link: string }
    output.result({ link }, [
      link,
      `opens the dashboard once, within ${limit('dashboardLinkLifetime') / 60} minutes, in a browser on this machine`,
    ])
  },
})
