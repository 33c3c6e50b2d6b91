"""Recipe -> Plan -> module: resolve, masks, quantizers, surgery."""
