//! The definitions that a process has registered. A saga belongs to the graph with which it was started, so several graphs of
//! one name can be known side by side: new sagas take the newest, the others go on with theirs.

use std::{collections::BTreeMap, sync::Arc};

use crate::{definition::saga::Definition, model::error::GraphError};

/// All registered definitions, by the hash of their graph, and the newest of each name.
pub(crate) struct Definitions {
    newest: BTreeMap<String, Arc<Definition>>,
    by_hash: BTreeMap<String, Arc<Definition>>,
}

impl Definitions {
    /// Collects the newest definition of each name, and earlier ones.
    ///
    /// # Errors
    /// When two of the newest have one name, an earlier one has a name that none of the newest has, or two graphs have the
    /// same hash.
    pub(crate) fn collect(newest: Vec<Definition>, earlier: Vec<Definition>) -> Result<Self, GraphError> {
        let mut all = Self { newest: BTreeMap::new(), by_hash: BTreeMap::new() };
        for definition in newest {
            let (name, definition) = (definition.graph.name.clone(), Arc::new(definition));
            if all.newest.insert(name.clone(), definition.clone()).is_some() {
                return Err(GraphError::SagaTwice(name));
            }
            all.add(definition)?;
        }
        for definition in earlier {
            if !all.newest.contains_key(&definition.graph.name) {
                return Err(GraphError::EarlierOfNone(definition.graph.name.clone()));
            }
            all.add(Arc::new(definition))?;
        }
        Ok(all)
    }

    fn add(&mut self, definition: Arc<Definition>) -> Result<(), GraphError> {
        let hash = definition.graph.hash.clone();
        match self.by_hash.insert(hash.clone(), definition) {
            None => Ok(()),
            Some(other) => Err(GraphError::SameGraph { saga: other.graph.name.clone(), hash }),
        }
    }

    /// The definition by which new sagas of this name are started.
    pub(crate) fn newest(&self, name: &str) -> Option<&Arc<Definition>> {
        self.newest.get(name)
    }

    /// The definition with this graph.
    pub(crate) fn with_hash(&self, hash: &str) -> Option<&Arc<Definition>> {
        self.by_hash.get(hash)
    }

    /// The newest definitions, by name.
    pub(crate) fn all_newest(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.newest.values()
    }

    /// All definitions, by the hash of their graph.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.by_hash.values()
    }
}
