/** Port of the API for other machines if the operator names none. Apart, so that the help of `start` loads no HTTP. */
export const DEFAULT_OUTSIDE_PORT = 8443
