/** The command `audit verify`: checks an audit bundle without a home folder, a node or a network. */
import { option, path, positional, text } from '../commands/parameters.ts'
import { day, table } from '../commands/terminal.ts'
import { fromUtf8, parseDigest } from '../lib/bytes.ts'
import { FormatError, InputError, VerificationError } from '../lib/errors.ts'
import { readFileBounded } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import type { VerifiedBundle, VerifiedLog } from '../transparency/verify-bundle.ts'
import { localCommand } from './local-command.ts'

const DIGEST_LENGTH = 71

export const AUDIT_VERIFY = localCommand({
  name: 'audit verify',
  usage: 'audit verify FILE [--consortium ID] [--policy FILE]',
  parameters: {
    file: positional(path, 'name the file that "flexmesh audit export" has written'),
    consortium: option(
      'consortium',
      'id of the consortium that you expect, from a source that you trust (default: the one in the file)',
      text(DIGEST_LENGTH),
    ),
    policy: option(
      'policy',
      'whose cosignatures you demand, in the syntax of C2SP tlog-policy (default: more than half of the other members)',
      path,
    ),
  },
  async work({ output, signal }, { file, consortium, policy }) {
    const [{ decodeTrustPolicy }, { verifyBundle }] = await Promise.all([
      import('../transparency/trust-policy.ts'),
      import('../transparency/verify-bundle.ts'),
    ])
    const bytes = await readFileBounded(file, limit('bundleBytes'), signal)
    const trust =
      policy === undefined
        ? undefined
        : decodeTrustPolicy(fromUtf8(await readFileBounded(policy, limit('trustPolicyBytes'), signal)))
    const verified = verifiedOrRefused(file, () =>
      verifyBundle(bytes, {
        ...(consortium === undefined ? {} : { consortium: parseDigest(consortium, '--consortium') }),
        ...(trust === undefined ? {} : { policy: trust }),
      }),
    )
    output.result(verified, words(verified, consortium !== undefined))
  },
})

/** @throws InputError `not-acceptable` for a bundle that does not verify. */
function verifiedOrRefused(file: string, verify: () => VerifiedBundle): VerifiedBundle {
  try {
    return verify()
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof VerificationError)) throw error
    throw new InputError(
      'not-acceptable',
      `${file} does not verify: ${error.code}, ${error.message}`,
      { code: error.code },
      error,
    )
  }
}

function words(
  { consortium, name, rosterVersion, exporter, exportedAt, logs, kinds, verdicts }: VerifiedBundle,
  isExpected: boolean,
): string[] {
  const statements = Object.values(kinds).reduce((sum, count) => sum + count, 0)
  return [
    `${name}, roster version ${rosterVersion}, exported by ${exporter} on ${day(exportedAt)}`,
    `consortium ${consortium}${isExpected ? '' : '; compare this id with one that you have from a member'}`,
    `${statements} statements verified, ${verdicts} verdicts of the exporter`,
    ...table(logs.map(logRow)),
    'this proves what was signed and cosigned up to these times; it does not prove what happened later',
  ]
}

function logRow({ institution, isRevoked, statements, final, cosigners, cosignedAt }: VerifiedLog): string[] {
  const [, latest] = cosignedAt
  return [
    institution,
    `${statements} ${statements === 1 ? 'statement' : 'statements'}`,
    `${final} final`,
    cosigners.length === 0
      ? isRevoked
        ? 'revoked'
        : ''
      : `cosigned by ${cosigners.join(', ')}, last on ${day(latest)}${isRevoked ? '; revoked' : ''}`,
  ]
}
