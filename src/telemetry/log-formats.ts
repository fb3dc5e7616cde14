/** How log lines may be written. Apart from what writes them, so that the help of `start` does not load that. */
export const LOG_FORMATS = ['pretty', 'json'] as const
export type LogFormat = (typeof LOG_FORMATS)[number]
