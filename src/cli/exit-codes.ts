/** sysexits.h EX_CONFIG: the set-up is wrong, trying again will not help. Here, so that no command loads a gateway for it. */
export const EXIT_CONFIG = 78
