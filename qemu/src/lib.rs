//! Boots a disk image in QEMU and follows its milestones.
