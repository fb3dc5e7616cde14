/** The command `audit export`: everything that an outsider needs to check the logs, as one file. */
import { commandLine, ownCommand } from '../lib/command-line.ts'
import { nodeCommand } from './command.ts'
import { path, positional } from './parameters.ts'

export const AUDIT_EXPORT = nodeCommand({
  name: 'audit export',
  usage: 'audit export FILE',
  parameters: {
    file: positional(
      path,
      `name the file to write, as in ${ownCommand('audit', 'export', 'consortium.audit')}`,
    ),
  },
  async *run(node, { file }) {
    const { exportAudit } = await import('../node/audit-export.ts')
    const { bytes, verified, incomplete } = await exportAudit(node.parts, file)
    return {
      file,
      bytes,
      consortium: node.consortium,
      statements: verified?.logs.reduce((sum, log) => sum + log.statements, 0) ?? 0,
      final: verified?.logs.reduce((sum, log) => sum + log.final, 0) ?? 0,
      ...(incomplete === undefined ? {} : { incomplete }),
    }
  },
  words: ({ file, bytes, consortium, statements, final, incomplete }) => [
    `written: ${file}, ${(bytes / 1e6).toFixed(2)} MB`,
    ...(incomplete === undefined
      ? [
          `${statements} statements, ${final} of them final`,
          `to check it without this node: ${commandLine(['audit', 'verify', file, '--consortium', consortium])}`,
          `or with Python alone: python3 scripts/verify-bundle.py ${file} ${consortium}`,
        ]
      : [`an auditor will refuse it: ${incomplete}; export it again when the members have cosigned`]),
  ],
  isIncomplete: ({ incomplete }) => incomplete !== undefined,
})
